//! The kernel's initramfs format (`Documentation/driver-api/early-userspace/buffer-format.rst`):
//! cpio "newc", uncompressed, so that an emulated processor has nothing to unpack.

use std::fs;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use anyhow::Context;

/// Writes a folder, with all that is below it, as an archive whose root it is.
pub(crate) fn write(folder: &Path, out: &mut impl Write) -> anyhow::Result<()> {
    let mut inode = 1;
    walk(folder, folder, &mut inode, out)?;
    entry(out, 0, 0, b"TRAILER!!!", &[])
}

fn walk(root: &Path, folder: &Path, inode: &mut u32, out: &mut impl Write) -> anyhow::Result<()> {
    for member in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let path = member?.path();
        let metadata = fs::symlink_metadata(&path)?;
        let content = if metadata.is_symlink() {
            fs::read_link(&path)?.as_os_str().as_bytes().to_vec()
        } else if metadata.is_file() {
            fs::read(&path)?
        } else {
            Vec::new()
        };
        *inode += 1;
        let name = path.strip_prefix(root)?.as_os_str().as_bytes();
        entry(out, *inode, metadata.mode(), name, &content)?;
        if metadata.is_dir() {
            walk(root, &path, inode, out)?;
        }
    }
    Ok(())
}

/// A header of hexadecimal fields, the name and the content, each padded to four bytes.
fn entry(
    out: &mut impl Write,
    inode: u32,
    mode: u32,
    name: &[u8],
    content: &[u8],
) -> anyhow::Result<()> {
    let size = u32::try_from(content.len())?;
    let name_size = name.len() as u32 + 1;
    let fields = [inode, mode, 0, 0, 1, 0, size, 0, 0, 0, 0, name_size, 0];
    write!(out, "070701")?;
    for field in fields {
        write!(out, "{field:08X}")?;
    }
    out.write_all(name)?;
    pad(out, 110 + name_size as usize, 1)?;
    out.write_all(content)?;
    pad(out, content.len(), 0)
}

/// Zeros up to the next multiple of four after `length` bytes, and `least` that belong to them.
fn pad(out: &mut impl Write, length: usize, least: usize) -> anyhow::Result<()> {
    let zeros = least + length.next_multiple_of(4) - length;
    Ok(out.write_all(&[0; 8][..zeros])?)
}
