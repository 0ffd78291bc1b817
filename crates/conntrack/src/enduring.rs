//! Standard output of commands that change the table: a disk that is full must not leave the work
//! half done.

use std::io::{self, ErrorKind, Write};

/// Passes on what is written until that fails, and drops the rest; only a reader who has gone ends
/// the command, as it ends conntrack.
pub(crate) struct Enduring<'a> {
    out: &'a mut dyn Write,
    failure: Option<io::Error>,
}

impl<'a> Enduring<'a> {
    pub(crate) fn new(out: &'a mut dyn Write) -> Self {
        Self { out, failure: None }
    }

    /// Fails as the first write did that failed.
    pub(crate) fn outcome(self) -> io::Result<()> {
        self.failure.map_or(Ok(()), Err)
    }

    fn endure(&mut self, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
        if self.failure.is_some() {
            return Ok(());
        }
        match write(self.out) {
            Err(error) if error.kind() != ErrorKind::BrokenPipe => {
                self.failure = Some(error);
                Ok(())
            }
            outcome => outcome,
        }
    }
}

impl Write for Enduring<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.endure(|out| out.write_all(bytes)).map(|()| bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.endure(|out| out.flush())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes so many bytes and then fails.
    struct Disk(usize, ErrorKind);

    impl Write for Disk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let taken = bytes.len().min(self.0);
            self.0 -= taken;
            if taken == 0 { Err(self.1.into()) } else { Ok(taken) }
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_full_disk_is_told_at_the_end() {
        let mut disk = Disk(5, ErrorKind::StorageFull);
        let mut out = Enduring::new(&mut disk);
        for _ in 0..3 {
            out.write_all(b"four").unwrap();
        }
        assert_eq!(out.outcome().unwrap_err().kind(), ErrorKind::StorageFull);
    }

    #[test]
    fn a_reader_who_has_gone_is_told_at_once() {
        let mut pipe = Disk(0, ErrorKind::BrokenPipe);
        assert!(Enduring::new(&mut pipe).write_all(b"line").is_err());
    }
}
