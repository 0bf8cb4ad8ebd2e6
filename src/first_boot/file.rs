//! Writes a seed's file: 0600, sparse, whole or not at all.

use std::fs::Permissions;
use std::io::{self, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use super::FirstBootError;

/// The usual block of a file system: a hole smaller than that saves nothing.
const BLOCK: usize = 4096;

/// Replaces `path` by a file of these bytes, mode 0600; blocks of zeros become holes.
pub fn write(path: &Path, bytes: &[u8]) -> Result<(), FirstBootError> {
    try_write(path, bytes).map_err(|source| FirstBootError::Write {
        path: path.to_owned(),
        source,
    })
}

fn try_write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let dir = path.parent().unwrap_or(Path::new("."));
    let mut file = tempfile::Builder::new()
        .permissions(Permissions::from_mode(0o600))
        .tempfile_in(dir)?;
    for block in bytes.chunks(BLOCK) {
        if block.iter().all(|byte| *byte == 0) {
            file.seek(SeekFrom::Current(block.len() as i64))?;
        } else {
            file.write_all(block)?;
        }
    }
    file.as_file().set_len(bytes.len() as u64)?;
    file.persist(path)?;
    Ok(())
}
