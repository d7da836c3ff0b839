//! Where a gateway is: scheme, host and port of a URL, nothing else.

use std::fmt;

/// A plane of a gateway, as named on the command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Endpoint {
    tls: bool,
    /// Without the brackets of an IPv6 literal.
    host: String,
    port: u16,
}

/// The text is no URL of a gateway. The text itself is not repeated: a URL with
/// a user part would carry a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NotAnEndpoint(&'static str);

impl fmt::Display for NotAnEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the URL {}; write it as http://127.0.0.1:8080 or https://host:port", self.0)
    }
}

impl Endpoint {
    pub(crate) fn parse(text: &str) -> Result<Self, NotAnEndpoint> {
        let uri: http::Uri = text.trim().parse().map_err(|_| NotAnEndpoint("cannot be read"))?;
        let tls = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err(NotAnEndpoint("has no scheme http or https")),
        };
        let authority = uri.authority().ok_or(NotAnEndpoint("has no host"))?;
        if authority.as_str().contains('@') {
            return Err(NotAnEndpoint("has a user part"));
        }
        if !matches!(uri.path_and_query().map(http::uri::PathAndQuery::as_str), None | Some("/")) {
            return Err(NotAnEndpoint("has a path"));
        }
        let host = authority.host();
        let host = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
        if host.is_empty() {
            return Err(NotAnEndpoint("has no host"));
        }
        let port = match authority.port() {
            Some(port) => port.as_u16(),
            // Behind the host stands something that is no port.
            None if authority.as_str() != authority.host() => return Err(NotAnEndpoint("has a wrong port")),
            None if tls => 443,
            None => 80,
        };
        Ok(Self { tls, host: host.to_owned(), port })
    }

    /// Whether it is to be spoken to over TLS.
    pub(crate) const fn is_tls(&self) -> bool {
        self.tls
    }

    pub(crate) fn host(&self) -> &str {
        &self.host
    }

    pub(crate) const fn port(&self) -> u16 {
        self.port
    }

    /// Whether what is sent to it can be read on a network.
    pub(crate) fn is_in_the_clear(&self) -> bool {
        let loopback = self
            .host
            .parse::<std::net::IpAddr>()
            .map_or(self.host == "localhost", |address| address.to_canonical().is_loopback());
        !self.tls && !loopback
    }

    /// `host:port`, as the `host` field takes it.
    pub(crate) fn authority(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", if self.tls { "https" } else { "http" }, self.authority())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_read() {
        for (text, shown) in [
            ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
            ("https://gate.example", "https://gate.example:443"),
            ("http://gate.example/", "http://gate.example:80"),
            ("https://[::1]:8443/", "https://[::1]:8443"),
        ] {
            assert_eq!(Endpoint::parse(text).expect(text).to_string(), shown);
        }
        assert_eq!(Endpoint::parse("http://[::1]:1").expect("IPv6").host(), "::1");
    }

    #[test]
    fn what_is_no_gateway_is_refused() {
        for text in [
            "",
            "127.0.0.1:8080",
            "ftp://x",
            "http://",
            "http://user:password@x",
            "http://x/v1",
            "http://x/?a",
            "http://x:99999",
            "http://x:",
        ] {
            let error = Endpoint::parse(text).expect_err(text).to_string();
            assert!(!error.contains("password"), "{error}");
        }
    }

    #[test]
    fn plain_http_is_for_the_loopback() {
        for (text, clear) in [
            ("http://127.0.0.1:1", false),
            ("http://127.9.9.9:1", false),
            ("http://[::1]:1", false),
            ("http://localhost:1", false),
            ("https://gate.example", false),
            ("http://gate.example", true),
            ("http://10.0.0.1:1", true),
        ] {
            assert_eq!(Endpoint::parse(text).expect(text).is_in_the_clear(), clear, "{text}");
        }
    }
}
