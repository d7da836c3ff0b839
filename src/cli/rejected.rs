//! The file of lines that an import refused: where each stands in the input and
//! why it is not in the register, never the number.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::{BufWriter, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use super::error::CliError;

/// The code of a line that is good itself, in a chunk that was refused for others.
const CHUNK_REFUSED: &str = "chunk-refused";

/// Writes `line,code` rows; lines are counted from 1, blank ones too, as an
/// editor shows them.
pub(crate) struct RejectedFile {
    path: PathBuf,
    file: BufWriter<std::fs::File>,
}

impl RejectedFile {
    /// Makes the file, or empties one of an earlier import.
    pub(crate) fn create(path: &Path) -> Result<Self, CliError> {
        let mut options = OpenOptions::new();
        let file = options.write(true).create(true).truncate(true).mode(0o600).open(path);
        let mut file = BufWriter::new(file.map_err(CliError::file(path))?);
        file.write_all(b"line,code\n").map_err(CliError::file(path))?;
        Ok(Self { path: path.to_owned(), file })
    }

    /// Writes all lines of a refused chunk: those from `first`, so many, with the
    /// codes of the bad ones. Indexes count lines with content from 0.
    pub(crate) fn chunk(
        &mut self,
        first: u64,
        lines: u64,
        codes: &BTreeMap<u64, String>,
        blanks: &Blanks,
    ) -> Result<(), CliError> {
        for index in first..first + lines {
            let code = codes.get(&index).map_or(CHUNK_REFUSED, String::as_str);
            writeln!(self.file, "{},{code}", blanks.line_number(index))
                .map_err(CliError::file(&self.path))?;
        }
        Ok(())
    }

    pub(crate) fn finish(mut self) -> Result<(), CliError> {
        self.file.flush().map_err(CliError::file(&self.path))
    }
}

/// Where the blank lines of an input are: for each, how many lines with content
/// stand before it.
#[derive(Debug, Default)]
pub(crate) struct Blanks(Vec<u64>);

impl Blanks {
    pub(crate) fn push(&mut self, lines_before: u64) {
        self.0.push(lines_before);
    }

    /// The line number, from 1, of the line with this index among those with content.
    pub(crate) fn line_number(&self, index: u64) -> u64 {
        index + 1 + self.0.partition_point(|before| *before <= index) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_numbered_as_an_editor_does() {
        // "a", "", "b", "c", "", "", "d"
        let blanks = Blanks(vec![1, 3, 3]);
        assert_eq!([0, 1, 2, 3].map(|index| blanks.line_number(index)), [1, 3, 4, 7]);
    }

    #[test]
    fn every_line_of_a_refused_chunk_is_told() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("rejected.csv");
        let mut file = RejectedFile::create(&path).expect("made");
        let codes = BTreeMap::from([(11, "not-reserved".to_owned())]);
        file.chunk(10, 3, &codes, &Blanks::default()).expect("written");
        file.finish().expect("written");
        let text = std::fs::read_to_string(&path).expect("readable");
        assert_eq!(text, "line,code\n11,chunk-refused\n12,not-reserved\n13,chunk-refused\n");
    }
}
