//! The places that a command puts its files at.

use std::fs;
use std::io;
use std::os::unix::fs::FileTypeExt as _;
use std::path::Path;

use super::error::CliError;

/// A file may be put here by a rename: there is nothing yet, or a file. Anything
/// else would be gone afterwards, a device such as `/dev/null` for the whole machine.
pub(crate) fn takes_a_file(path: &Path) -> Result<(), CliError> {
    let kind = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata.file_type(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(CliError::file(path)(error)),
    };
    let what = match kind {
        kind if kind.is_file() => return Ok(()),
        kind if kind.is_symlink() => "a symbolic link (name the file that it leads to)",
        kind if kind.is_dir() => "a directory",
        kind if kind.is_fifo() => "a pipe",
        kind if kind.is_socket() => "a socket",
        _ => "a device",
    };
    Err(CliError::Usage(format!("{} is {what}: a file put there would take its place", path.display())))
}

#[cfg(test)]
mod tests {
    use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};

    use super::*;

    #[test]
    fn what_is_no_file_is_not_replaced_by_one() {
        let dir = tempfile::tempdir().expect("a directory");
        let at = |name: &str| dir.path().join(name);
        fs::write(at("file"), "").expect("written");
        fs::create_dir(at("directory")).expect("made");
        for (name, target) in [("link", "file"), ("dangling", "nothing")] {
            std::os::unix::fs::symlink(at(target), at(name)).expect("made");
        }
        mknodat(CWD, at("pipe"), FileType::Fifo, Mode::RUSR, 0).expect("made");
        for name in ["file", "nothing"] {
            takes_a_file(&at(name)).expect(name);
        }
        let mut refused = vec![("directory", "a directory"), ("link", "a symbolic link"), ("pipe", "a pipe")];
        refused.push(("dangling", "a symbolic link"));
        // Made by root alone, and not in every container.
        if mknodat(CWD, at("null"), FileType::CharacterDevice, Mode::RUSR, makedev(1, 3)).is_ok() {
            refused.push(("null", "a device"));
        }
        for (name, says) in refused {
            let error = takes_a_file(&at(name)).expect_err(name).to_string();
            assert!(error.contains(says), "{error}");
        }
    }
}
