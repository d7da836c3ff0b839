//! The CSV file: rows in batches, ready to be asked and ready to be written
//! again.

use std::fs::File;
use std::io::{self, Read, Seek as _, SeekFrom};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use bytes::Bytes;
use csv::ByteRecord;
use memchr::{memchr, memchr3};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::guarded::Guarded;
use crate::cli::error::CliError;

/// Bytes of text in a batch before it is closed, whatever its rows.
const BATCH_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Bytes at the beginning of a file that help to know it again.
const HEAD_BYTES: usize = 64 * 1024;
/// Bytes of a field that are shown to the gateway: it is the judge of what is no
/// number, and nothing longer is one.
const QUESTION_BYTES_MAX: usize = 64;
/// The columns that are added.
pub(super) const ADDED: [&str; 6] =
    ["reserved", "reserved_at", "withdrawn_at", "verification_id", "index", "error"];
/// UTF-8's byte order mark, as spreadsheets write it.
const BOM: &[u8] = b"\xEF\xBB\xBF";

/// How a file is known again after an interruption.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Identity {
    bytes: u64,
    modified_s: i64,
    modified_ns: i64,
    head_sha256: String,
}

/// How the file is written, and where its number stands.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shape {
    columns: usize,
    /// Which column holds the number.
    pesel: usize,
    pub(super) delimiter: u8,
    /// The end of a line, as the file has it.
    pub(super) end: &'static [u8],
}

/// Some rows in their order.
#[derive(Debug)]
pub(super) struct Batch {
    /// Rows as they go to the output, their ends of line apart.
    text: Vec<u8>,
    /// NDJSON lines of the rows that are asked.
    questions: Bytes,
    rows: Vec<Row>,
    asked: u64,
}

/// Where a row's parts end; they begin where those of the row before end.
#[derive(Debug, Clone, Copy)]
struct Row {
    text: u32,
    question: u32,
    /// Bytes of the file behind this row.
    input: u64,
}

impl Batch {
    pub(super) fn rows(&self) -> usize {
        self.rows.len()
    }

    /// Lines that the rows from this one on ask.
    pub(super) fn asked_from(&self, row: usize) -> u64 {
        if row == 0 {
            self.asked
        } else {
            (row..self.rows()).filter(|at| self.question(*at).is_some()).count() as u64
        }
    }

    /// The row's text, complete when the row is not asked.
    pub(super) fn text(&self, row: usize) -> &[u8] {
        &self.text[self.before(row).text as usize..self.rows[row].text as usize]
    }

    /// The row's line of the request; `None` when it is not asked.
    pub(super) fn question(&self, row: usize) -> Option<&[u8]> {
        let question = &self.questions[self.before(row).question as usize..self.rows[row].question as usize];
        (!question.is_empty()).then_some(question)
    }

    /// The lines of all rows from this one on.
    pub(super) fn questions_from(&self, row: usize) -> Bytes {
        self.questions.slice(self.before(row).question as usize..)
    }

    /// Bytes of the file behind this row.
    pub(super) fn input_behind(&self, row: usize) -> u64 {
        self.rows[row].input
    }

    fn before(&self, row: usize) -> Row {
        row.checked_sub(1).map_or(Row { text: 0, question: 0, input: 0 }, |before| self.rows[before])
    }
}

/// A CSV file whose header is read.
pub(super) struct Input {
    reader: csv::Reader<Source>,
    shape: Shape,
    header: Vec<u8>,
    identity: Option<Identity>,
    /// Bytes of the file before what `reader` reads.
    base: u64,
    record: ByteRecord,
    /// A second handle, to go on in the middle; none for a pipe.
    file: Option<File>,
}

impl Input {
    /// Opens the file (`-`: standard input) and reads its header.
    pub(super) fn open(path: &Path, column: &str, delimiter: u8) -> Result<Self, CliError> {
        let (input, file) = source(path)?;
        let mut input = input;
        let mut head = Vec::with_capacity(HEAD_BYTES);
        input.by_ref().take(HEAD_BYTES as u64).read_to_end(&mut head).map_err(CliError::file(path))?;
        let identity =
            file.as_ref().map(|file| identity(file, &head)).transpose().map_err(CliError::file(path))?;
        let base = if head.starts_with(BOM) { BOM.len() } else { 0 };
        let end: &[u8] = match memchr(b'\n', &head) {
            Some(at) if at > 0 && head[at - 1] == b'\r' => b"\r\n",
            _ => b"\n",
        };
        let rest = io::Cursor::new(head.split_off(base)).chain(input);
        let mut reader = reader(Box::new(rest), delimiter);
        let mut record = ByteRecord::new();
        if !read_record(&mut reader, &mut record)? {
            return Err(CliError::Input("the input is empty: a header is needed".into()));
        }
        let pesel = column_at(&record, column, delimiter)?;
        let shape = Shape { columns: record.len(), pesel, delimiter, end };
        let header = header(&head, &record, shape);
        Ok(Self { reader, shape, header, identity, base: base as u64, record, file })
    }

    pub(super) const fn shape(&self) -> Shape {
        self.shape
    }

    /// The output's header, with its end of line.
    pub(super) fn header(&self) -> &[u8] {
        &self.header
    }

    /// Columns that the file has already under a name that is added.
    pub(super) fn doubled(&self) -> Vec<&'static str> {
        let has = |name: &&str| self.record.iter().any(|field| field == name.as_bytes());
        ADDED.into_iter().filter(has).collect()
    }

    /// How the file is known again; none for a pipe.
    pub(super) const fn identity(&self) -> Option<&Identity> {
        self.identity.as_ref()
    }

    /// Bytes of the file.
    pub(super) fn bytes(&self) -> Option<u64> {
        self.identity.as_ref().map(|identity| identity.bytes)
    }

    /// Bytes read, the header at the least.
    pub(super) fn position(&self) -> u64 {
        self.base + self.reader.position().byte()
    }

    /// Goes on behind so many bytes of the file, which end a row.
    pub(super) fn go_to(&mut self, position: u64) -> io::Result<()> {
        let Some(mut file) = self.file.take() else {
            return Err(io::Error::other("a pipe cannot be read from the middle"));
        };
        file.seek(SeekFrom::Start(position))?;
        self.base = position;
        self.reader = reader(Box::new(file), self.shape.delimiter);
        Ok(())
    }

    /// The next rows, at the most so many; `None` at the end.
    pub(super) fn batch(&mut self, rows_max: usize) -> Result<Option<Batch>, CliError> {
        let mut batch = Maker {
            shape: self.shape,
            text: Vec::with_capacity(rows_max * 32),
            questions: Vec::with_capacity(rows_max * 14),
            rows: Vec::with_capacity(rows_max),
            asked: 0,
        };
        while batch.rows.len() < rows_max && batch.text.len() < BATCH_BYTES_MAX {
            if !read_record(&mut self.reader, &mut self.record)? {
                break;
            }
            batch.push(&self.record, self.base + self.reader.position().byte());
        }
        if batch.rows.is_empty() {
            return Ok(None);
        }
        let Maker { text, questions, rows, asked, .. } = batch;
        Ok(Some(Batch { text, questions: Bytes::from(questions), rows, asked }))
    }
}

/// A batch in the making.
struct Maker {
    shape: Shape,
    text: Vec<u8>,
    questions: Vec<u8>,
    rows: Vec<Row>,
    asked: u64,
}

impl Maker {
    fn push(&mut self, record: &ByteRecord, input: u64) {
        let Shape { columns, pesel, delimiter, .. } = self.shape;
        match record.get(pesel) {
            Some(field) if record.len() == columns => {
                put_record(&mut self.text, record, delimiter);
                put_question(&mut self.questions, field);
                self.asked += 1;
            }
            // A column too many or too few: nobody knows which one, so another
            // column might pass for the number. What is there stays under its
            // names, the rest goes behind the added columns.
            _ => {
                let field = |at| record.get(at).unwrap_or_default();
                put_fields(&mut self.text, (0..columns).map(field), delimiter);
                self.text.extend(std::iter::repeat_n(delimiter, ADDED.len()));
                self.text.extend_from_slice(b"row-length");
                for at in columns..record.len() {
                    self.text.push(delimiter);
                    put_field(&mut self.text, field(at), delimiter);
                }
            }
        }
        // A batch is closed at a few MiB, a row has 16 MiB: both fit.
        let end = |length: usize| u32::try_from(length).unwrap_or(u32::MAX);
        self.rows.push(Row { text: end(self.text.len()), question: end(self.questions.len()), input });
    }
}

/// A field for the output: quoted when it has to be.
pub(super) fn put_field(text: &mut Vec<u8>, field: &[u8], delimiter: u8) {
    if memchr3(b'"', b'\n', b'\r', field).is_none() && memchr(delimiter, field).is_none() {
        text.extend_from_slice(field);
        return;
    }
    text.push(b'"');
    for byte in field {
        if *byte == b'"' {
            text.push(b'"');
        }
        text.push(*byte);
    }
    text.push(b'"');
}

fn put_fields<'a>(text: &mut Vec<u8>, fields: impl Iterator<Item = &'a [u8]>, delimiter: u8) {
    for (at, field) in fields.enumerate() {
        if at > 0 {
            text.push(delimiter);
        }
        put_field(text, field, delimiter);
    }
}

/// A whole row; most have nothing to quote, which one look tells.
fn put_record(text: &mut Vec<u8>, record: &ByteRecord, delimiter: u8) {
    let all = record.as_slice();
    if memchr3(b'"', b'\n', b'\r', all).is_some() || memchr(delimiter, all).is_some() {
        return put_fields(text, record.iter(), delimiter);
    }
    for (at, field) in record.iter().enumerate() {
        if at > 0 {
            text.push(delimiter);
        }
        text.extend_from_slice(field);
    }
}

fn put_question(questions: &mut Vec<u8>, field: &[u8]) {
    if let Ok(digits) = <&[u8; 11]>::try_from(field)
        && digits.iter().fold(true, |all, c| all & c.is_ascii_digit())
    {
        let mut line = *b"\"00000000000\"\n";
        line[1..12].copy_from_slice(digits);
        questions.extend_from_slice(&line);
        return;
    }
    let shown = String::from_utf8_lossy(&field[..field.len().min(QUESTION_BYTES_MAX)]);
    questions.extend_from_slice(serde_json::Value::from(shown).to_string().as_bytes());
    questions.push(b'\n');
}

fn column_at(header: &ByteRecord, column: &str, delimiter: u8) -> Result<usize, CliError> {
    let mut found = header.iter().enumerate().filter(|(_, name)| *name == column.as_bytes());
    match (found.next(), found.next()) {
        (Some((at, _)), None) => Ok(at),
        (Some(_), Some(_)) => {
            Err(CliError::Input(format!("the header has the column `{column}` more than once")))
        }
        (None, _) => {
            let other = [b';', b'\t', b',', b'|'];
            let is_other = |c: &u8| *c != delimiter && header.len() == 1 && memchr(*c, &header[0]).is_some();
            let hint = other.into_iter().find(is_other).map_or(String::new(), |c| {
                format!(
                    "; columns seem to be parted by `{}`: see --delimiter",
                    char::from(c).escape_default()
                )
            });
            Err(CliError::Input(format!("the header has no column `{column}`{hint}")))
        }
    }
}

fn header(head: &[u8], record: &ByteRecord, shape: Shape) -> Vec<u8> {
    // `head` was cut behind the byte order mark, if it had one.
    let mut text = head.to_vec();
    let added = ADDED.iter().map(|name| name.as_bytes());
    put_fields(&mut text, record.iter().chain(added), shape.delimiter);
    text.extend_from_slice(shape.end);
    text
}

fn source(path: &Path) -> Result<(Box<dyn Read + Send>, Option<File>), CliError> {
    if path == Path::new("-") {
        return Ok((Box::new(io::stdin()), None));
    }
    let open = || File::open(path).map_err(CliError::file(path));
    let file = open()?;
    let metadata = file.metadata().map_err(CliError::file(path))?;
    if metadata.is_dir() {
        return Err(CliError::Input(format!("{} is a directory", path.display())));
    }
    let second = if metadata.is_file() { Some(open()?) } else { None };
    Ok((Box::new(file), second))
}

fn identity(file: &File, head: &[u8]) -> io::Result<Identity> {
    let metadata = file.metadata()?;
    Ok(Identity {
        bytes: metadata.len(),
        modified_s: metadata.mtime(),
        modified_ns: metadata.mtime_nsec(),
        head_sha256: data_encoding::HEXLOWER.encode(&Sha256::digest(head)),
    })
}

type Source = Guarded<Box<dyn Read + Send>>;

fn reader(input: Box<dyn Read + Send>, delimiter: u8) -> csv::Reader<Source> {
    csv::ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .delimiter(delimiter)
        .buffer_capacity(256 * 1024)
        .from_reader(Guarded::new(input, delimiter))
}

fn read_record(reader: &mut csv::Reader<Source>, record: &mut ByteRecord) -> Result<bool, CliError> {
    reader.get_mut().begin_row();
    reader.read_byte_record(record).map_err(|error| {
        let line = reader.position().line();
        CliError::Input(format!("the input cannot be read from line {line} on: {error}"))
    })
}
