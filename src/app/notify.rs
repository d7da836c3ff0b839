//! Telling the service manager how the instance is: systemd's notification
//! protocol (sd_notify(3)) over its datagram socket.

use std::ffi::OsString;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

/// Says how the instance is to whoever started it; silent where nobody asked.
#[derive(Debug)]
pub(super) struct Notifier {
    socket: Option<UnixDatagram>,
    watchdog: Option<Duration>,
}

/// What there is to say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Word {
    /// All planes answer; said again after a reload.
    Ready,
    /// Configuration and certificates are being read again.
    Reloading,
    /// The end has begun.
    Stopping,
    /// Every worker answers.
    Alive,
}

impl Word {
    const fn text(self) -> &'static str {
        match self {
            Self::Ready => "READY=1",
            Self::Reloading => "RELOADING=1",
            Self::Stopping => "STOPPING=1",
            Self::Alive => "WATCHDOG=1",
        }
    }
}

impl Notifier {
    /// A notifier as `NOTIFY_SOCKET`, `WATCHDOG_USEC` and `WATCHDOG_PID` ask for.
    pub(super) fn from_environment() -> Self {
        let number = |name| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
        // The watchdog is this process's unless it says another one's.
        let ours = number("WATCHDOG_PID").is_none_or(|pid| pid == u64::from(std::process::id()));
        let watchdog = number("WATCHDOG_USEC").filter(|_| ours).map(Duration::from_micros);
        match Self::new(std::env::var_os("NOTIFY_SOCKET"), watchdog) {
            Ok(notifier) => notifier,
            Err(error) => {
                tracing::warn!(%error, "the service manager cannot be notified");
                Self { socket: None, watchdog: None }
            }
        }
    }

    fn new(address: Option<OsString>, watchdog: Option<Duration>) -> io::Result<Self> {
        let Some(address) = address.filter(|address| !address.is_empty()) else {
            return Ok(Self { socket: None, watchdog: None });
        };
        let address = match address.as_bytes() {
            [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
            _ => SocketAddr::from_pathname(&address)?,
        };
        let socket = UnixDatagram::unbound()?;
        socket.connect_addr(&address)?;
        // A manager that does not read must not hold the instance up.
        socket.set_nonblocking(true)?;
        Ok(Self { socket: Some(socket), watchdog: watchdog.filter(|interval| !interval.is_zero()) })
    }

    /// Says it; that nobody listens is no reason to end.
    pub(super) fn tell(&self, word: Word) {
        if let Some(socket) = &self.socket
            && let Err(error) = socket.send(word.text().as_bytes())
        {
            tracing::debug!(%error, word = word.text(), "the service manager was not reached");
        }
    }

    /// How often [`Word::Alive`] is due: twice in the manager's interval.
    pub(super) fn alive_every(&self) -> Option<Duration> {
        self.watchdog.map(|interval| interval / 2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(socket: &UnixDatagram) -> String {
        let mut text = [0; 64];
        let length = socket.recv(&mut text).expect("a datagram");
        String::from_utf8_lossy(&text[..length]).into_owned()
    }

    #[test]
    fn words_arrive_by_path_and_by_abstract_name() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("notify");
        let name = format!("peselgate-notify-{}", std::process::id());
        let abstract_address = SocketAddr::from_abstract_name(&name).expect("an address");
        for (socket, address) in [
            (UnixDatagram::bind(&path).expect("bound"), path.into_os_string()),
            (UnixDatagram::bind_addr(&abstract_address).expect("bound"), format!("@{name}").into()),
        ] {
            let notifier = Notifier::new(Some(address), Some(Duration::from_secs(30))).expect("a notifier");
            for (word, text) in [
                (Word::Ready, "READY=1"),
                (Word::Reloading, "RELOADING=1"),
                (Word::Alive, "WATCHDOG=1"),
                (Word::Stopping, "STOPPING=1"),
            ] {
                notifier.tell(word);
                assert_eq!(heard(&socket), text);
            }
            assert_eq!(notifier.alive_every(), Some(Duration::from_secs(15)));
            drop(socket);
            notifier.tell(Word::Ready);
        }
    }

    #[test]
    fn nobody_asked_and_nobody_there() {
        for address in [None, Some(OsString::new())] {
            let silent = Notifier::new(address, Some(Duration::from_secs(1))).expect("silent");
            silent.tell(Word::Ready);
            assert_eq!(silent.alive_every(), None);
        }
        assert!(Notifier::new(Some("/nonexistent/notify".into()), None).is_err());
    }
}
