//! Files with secrets: only their owner may read them.

use std::fs::Metadata;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::error::Error;

/// Refuses a file that its group or others may read or write.
pub(crate) fn only_its_owner(path: &Path, metadata: &Metadata) -> Result<(), Error> {
    let mode = metadata.permissions().mode();
    if mode & 0o077 == 0 {
        return Ok(());
    }
    let path = path.display();
    Err(Error::Usage(format!("{path}: others can read it (mode {:o}); run: chmod 600 {path}", mode & 0o777)))
}
