//! Words of a command that is shown to be copied into a shell.

use std::borrow::Cow;

/// The text as one word of a POSIX shell: as it is where that is safe, else in quotes.
pub(super) fn word(text: &str) -> Cow<'_, str> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./:@%+=,".contains(&byte);
    if !text.is_empty() && text.bytes().all(is_plain) {
        Cow::Borrowed(text)
    } else {
        Cow::Owned(format!("'{}'", text.replace('\'', r"'\''")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_reads_the_word_as_it_was() {
        for plain in ["data/demo", "/tmp/a-b_c.1"] {
            assert_eq!(word(plain), plain);
        }
        for text in ["", "d sp ace", "it's", "$HOME", "`id`", "a\nb", "zażółć", "*", "~"] {
            let printed = std::process::Command::new("sh")
                .args(["-c", &format!("printf %s {}", word(text))])
                .output()
                .expect("a shell");
            assert_eq!(String::from_utf8_lossy(&printed.stdout), text);
        }
    }
}
