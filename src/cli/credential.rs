//! Credentials of the client commands: from a file, standard input or the
//! environment; never from an argument, which every user of the machine can read
//! in the list of processes.

use std::fmt;
use std::io::Read as _;
use std::path::Path;

use http::HeaderValue;
use zeroize::Zeroizing;

use super::error::CliError;
use crate::secret::{Plane, Presented};

/// Bytes of a credential's file, at the most: one line and some white space.
const FILE_BYTES_MAX: u64 = 4 * 1024;

/// Where the credential of a plane is looked for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Source {
    /// The plane it must open.
    plane: Plane,
    /// The option that names its file.
    pub(crate) option: &'static str,
    /// The variable that holds it, when no file is named.
    pub(crate) variable: &'static str,
}

/// An institution's API key.
pub(crate) const KEY: Source =
    Source { plane: Plane::Verification, option: "--key-file", variable: "PESELGATE_KEY" };
/// A token of the admin plane.
pub(crate) const ADMIN_TOKEN: Source =
    Source { plane: Plane::Admin, option: "--admin-token-file", variable: "PESELGATE_ADMIN_TOKEN" };

/// A well-formed credential, ready for the `authorization` field. Only the
/// gateway can tell whether anybody issued it.
#[derive(Clone)]
pub(crate) struct Bearer {
    text: Zeroizing<String>,
    /// What of it is no secret.
    public_text: String,
}

impl Bearer {
    /// Reads it from the file (`-`: standard input) or, without one, from the
    /// environment.
    pub(crate) fn read(
        source: Source,
        file: Option<&Path>,
        variable: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, CliError> {
        let text = match file {
            Some(path) => read_file(path)?,
            None => Zeroizing::new(variable(source.variable).ok_or_else(|| {
                CliError::Usage(format!(
                    "no credential: name its file with {} or set {}",
                    source.option, source.variable
                ))
            })?),
        };
        Self::parse(source, text.trim())
    }

    /// A credential of the other plane, or with a typing error, is refused here:
    /// it would only be shown to a gateway that must not see it.
    fn parse(source: Source, text: &str) -> Result<Self, CliError> {
        if let Ok(presented) = Presented::parse(source.plane, text.as_bytes()) {
            let public_text = presented.public_text().to_owned();
            return Ok(Self { text: Zeroizing::new(text.to_owned()), public_text });
        }
        let (this, other) = match source.plane {
            Plane::Verification => ("an API key", Plane::Admin),
            Plane::Admin => ("an admin token", Plane::Verification),
        };
        let what = if Presented::parse(other, text.as_bytes()).is_ok() {
            format!("the credential of {} is for the other plane: {this} is needed", source.option)
        } else {
            format!(
                "the credential of {} or {} is not {this}, or has a typing error",
                source.option, source.variable
            )
        };
        Err(CliError::Usage(what))
    }

    /// Which credential it is, without its secret: `pg_test_<id>`.
    pub(crate) fn public_text(&self) -> &str {
        &self.public_text
    }

    /// The value of the `authorization` field.
    pub(crate) fn header(&self) -> HeaderValue {
        let text = Zeroizing::new(format!("Bearer {}", self.text.as_str()));
        // A parsed credential is ASCII letters, digits and underscores.
        let mut value = HeaderValue::from_str(&text).unwrap_or(HeaderValue::from_static("Bearer"));
        value.set_sensitive(true);
        value
    }
}

impl fmt::Debug for Bearer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Bearer(redacted)")
    }
}

fn read_file(path: &Path) -> Result<Zeroizing<String>, CliError> {
    let mut text = Zeroizing::new(String::with_capacity(256));
    let read = if path == Path::new("-") {
        std::io::stdin().take(FILE_BYTES_MAX).read_to_string(&mut text)
    } else {
        std::fs::File::open(path).and_then(|file| file.take(FILE_BYTES_MAX).read_to_string(&mut text))
    };
    read.map_err(CliError::file(path))?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::environment::Environment;
    use crate::secret::PlainCredential;

    fn plain(plane: Plane) -> PlainCredential {
        PlainCredential::generate(plane, Environment::Test).expect("randomness")
    }

    #[test]
    fn a_file_goes_before_the_environment() {
        let dir = tempfile::tempdir().expect("directory");
        let (file, (a, b)) =
            (dir.path().join("key"), (plain(Plane::Verification), plain(Plane::Verification)));
        std::fs::write(&file, format!("{}\n", a.reveal())).expect("written");
        let variable = |name: &str| (name == "PESELGATE_KEY").then(|| b.reveal().to_owned());
        let from_file = Bearer::read(KEY, Some(&file), &variable).expect("read");
        assert_eq!(from_file.header().to_str().expect("ASCII"), format!("Bearer {}", a.reveal()));
        let from_variable = Bearer::read(KEY, None, &variable).expect("read");
        assert_eq!(from_variable.header().to_str().expect("ASCII"), format!("Bearer {}", b.reveal()));
        assert!(Bearer::read(ADMIN_TOKEN, None, &variable).is_err());
    }

    #[test]
    fn a_wrong_credential_is_refused_without_being_shown() {
        let token = plain(Plane::Admin);
        let typo = format!("{}x", plain(Plane::Verification).reveal());
        for (text, says) in
            [(token.reveal(), "other plane"), (typo.as_str(), "typing error"), ("", "typing error")]
        {
            let error = Bearer::parse(KEY, text).expect_err("refused").to_string();
            assert!(error.contains(says), "{error}");
            assert!(!error.contains("pg_") && !error.contains("pga_"), "{error}");
        }
        let shown = format!(
            "{:?} {:?}",
            Bearer::parse(ADMIN_TOKEN, token.reveal()),
            Bearer { text: Zeroizing::new("pga_x".into()), public_text: String::new() }.header()
        );
        assert!(!shown.contains("pga_"), "{shown}");
    }
}
