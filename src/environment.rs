//! Production or test: one instance serves one of them, never both.

use std::fmt;

/// The environment (środowisko) of an instance, a key or a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Environment {
    /// środowisko testowe: fictional people only.
    Test,
    /// środowisko produkcyjne.
    Production,
}

impl Environment {
    /// The word in API answers and in the configuration.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Test => "test",
            Self::Production => "production",
        }
    }
}

impl fmt::Display for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
