//! Images that somebody has tampered with: refused, or an engine that works.

use ctkeeper_engine::{Engine, Image, Packet, Time};
use serde_json::Value;

use crate::scene::NAMESPACES;

/// More than this an image may ask for, but does not get here.
const ENTRIES: u32 = 100_000;

/// Changes one number of an engine's image and restores it.
pub(crate) fn restore_damaged(engine: &Engine, now: Time, detail: u8) {
    const VALUES: [u64; 8] = [0, 1, 2, 0xff, 0xffff, u32::MAX as u64, 1 << 31, u64::MAX];
    let mut image = serde_json::to_value(engine.image()).expect("images are written as JSON");
    let mut left = usize::from(detail) * 7 + now.0 as usize % 7;
    let numbers = count(&image);
    left %= numbers.max(1);
    change(&mut image, &mut left, VALUES[usize::from(detail & 7)]);
    let Ok(image) = serde_json::from_value::<Image>(image) else { return };
    if image.config().entries() > ENTRIES || image.config().buckets > ENTRIES {
        return;
    }
    if let Ok(mut engine) = Engine::restore(&image) {
        work(&mut engine, now);
    }
}

/// Uses all of an engine once.
fn work(engine: &mut Engine, now: Time) {
    let flows: Vec<_> = engine.connections(now).collect();
    for namespace in 0..NAMESPACES {
        let bytes = [0x45, 0, 0, 20, 0, 0, 0, 0, 64, 50, 0, 0, 10, 0, 0, 1, 10, 0, 0, 9];
        let packet = Packet { namespace, ..Packet::new(&bytes) };
        engine.packet(now, &packet, &mut ());
    }
    engine.collect(Time(now.0.saturating_add(1 << 42)), 100_000);
    let _ = (flows, engine.events(), engine.image());
}

/// How many numbers there are in a value.
fn count(value: &Value) -> usize {
    match value {
        Value::Number(_) => 1,
        Value::Array(values) => values.iter().map(count).sum(),
        Value::Object(fields) => fields.values().map(count).sum(),
        _ => 0,
    }
}

/// Changes the number that so many others stand before.
fn change(value: &mut Value, left: &mut usize, new: u64) {
    match value {
        Value::Number(number) if *left == 0 => {
            *number = new.into();
            *left = usize::MAX;
        }
        Value::Number(_) => *left -= 1,
        Value::Array(values) => values.iter_mut().for_each(|value| change(value, left, new)),
        Value::Object(fields) => fields.values_mut().for_each(|value| change(value, left, new)),
        _ => {}
    }
}
