//! Huge pages for what is larger than one.

/// Size of a huge page of x86_64 and of aarch64 with pages of 4 KiB.
const HUGE_PAGE: usize = 2 << 20;

/// Asks the kernel to back a vector, its spare room included, with huge pages.
///
/// Random accesses over hundreds of megabytes pay a walk of the page tables each when pages are
/// small. Best effort: a kernel that says no (`/sys/kernel/mm/transparent_hugepage/enabled`
/// `never`), or a system that is not Linux, leaves small pages. What is smaller than a huge page
/// stays as it is. Page tables apart, no memory is taken before it is touched; a first touch takes
/// 2 MiB at once then.
pub(crate) fn want_huge_pages<T>(vector: &mut Vec<T>) {
    let bytes = vector.capacity() * size_of::<T>();
    if bytes >= HUGE_PAGE {
        advise(vector.as_mut_ptr().cast(), bytes);
    }
}

#[cfg(target_os = "linux")]
#[expect(unsafe_code, reason = "advice about memory is given by address")]
fn advise(start: *mut u8, bytes: usize) {
    use rustix::mm::{Advice, madvise};

    // The kernel takes whole pages only; those at the edges hold others' memory too and are left.
    let skipped = start.align_offset(rustix::param::page_size());
    let Some(rest) = bytes.checked_sub(skipped) else { return };
    let whole = rest - rest % rustix::param::page_size();
    // SAFETY: start + skipped ≤ start + bytes, so the pointer stays in the vector's allocation, and
    // so does `whole`. MADV_HUGEPAGE changes how pages are backed, never what they hold.
    let _ = unsafe { madvise(start.add(skipped).cast(), whole, Advice::LinuxHugepage) };
}

#[cfg(not(target_os = "linux"))]
fn advise(_start: *mut u8, _bytes: usize) {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contents_and_place_are_left_alone() {
        let mut vector = vec![7u32; HUGE_PAGE];
        let place = vector.as_ptr();
        want_huge_pages(&mut vector);
        assert_eq!(vector.as_ptr(), place);
        assert!(vector.iter().all(|&word| word == 7));
        want_huge_pages(&mut Vec::<u8>::new());
        want_huge_pages(&mut vec![(); 10]);
    }
}
