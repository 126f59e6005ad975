use std::{fmt, path::PathBuf, str::FromStr};

use http::Uri;

use crate::ConfigError;

/// The port of an appliance's gRPC listener where an endpoint names none.
const DEFAULT_PORT: u16 = 7443;

/// Where an appliance listens: `https://HOST[:PORT]` (mutual TLS, port 7443 by default) or
/// `unix:/PATH` (peer credentials).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Address {
    /// Mutual TLS over TCP.
    Tls {
        /// A name or an IP address; IPv6 without brackets.
        host: String,
        port: u16,
    },
    /// A unix socket.
    Unix(PathBuf),
}

impl Address {
    /// What `:scheme` and `:authority` of the requests are made of (RFC 9113 section 8.3.1).
    pub(crate) fn origin(&self) -> Uri {
        let origin = match self {
            Self::Tls { .. } => self.to_string(),
            // A socket has no authority; gRPC clients agree on this one.
            Self::Unix(_) => "http://localhost".to_owned(),
        };
        origin.parse().expect("an address is made from a URI that parsed")
    }
}

impl FromStr for Address {
    type Err = ConfigError;

    fn from_str(text: &str) -> Result<Self, ConfigError> {
        let wrong = |problem| ConfigError::Endpoint { endpoint: text.to_owned(), problem };
        if let Some(path) = text.strip_prefix("unix:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            return match path {
                "" => Err(wrong("the socket's path is missing")),
                path => Ok(Self::Unix(path.into())),
            };
        }
        let uri: Uri = text.parse().map_err(|_| wrong("not a URI"))?;
        match uri.scheme_str() {
            Some("https") => {}
            Some("http") => return Err(wrong("the API is not served without TLS")),
            _ => return Err(wrong("the scheme is missing or unknown")),
        }
        if !matches!(uri.path(), "" | "/") || uri.query().is_some() {
            return Err(wrong("a path or query has no meaning here"));
        }
        if uri.authority().is_some_and(|authority| authority.as_str().contains('@')) {
            return Err(wrong("a user has no meaning here"));
        }
        let host = uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
        if host.is_empty() {
            return Err(wrong("the host is missing"));
        }
        Ok(Self::Tls { host: host.to_owned(), port: uri.port_u16().unwrap_or(DEFAULT_PORT) })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tls { host, port } if host.contains(':') => write!(f, "https://[{host}]:{port}"),
            Self::Tls { host, port } => write!(f, "https://{host}:{port}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_both_forms() {
        for (text, shown) in [
            ("https://hsm.example:7443", "https://hsm.example:7443"),
            ("https://hsm.example/", "https://hsm.example:7443"),
            ("https://192.0.2.1:1", "https://192.0.2.1:1"),
            ("https://[2001:db8::1]:1", "https://[2001:db8::1]:1"),
            ("unix:/run/mintwarden/api.sock", "unix:/run/mintwarden/api.sock"),
            ("unix:///run/a", "unix:/run/a"),
        ] {
            let endpoint: Address = text.parse().unwrap();
            assert_eq!(endpoint.to_string(), shown);
            endpoint.origin();
        }
    }

    #[test]
    fn says_what_is_wrong_with_others() {
        for (text, problem) in [
            ("http://hsm.example", "without TLS"),
            ("hsm.example:7443", "scheme"),
            ("/run/a", "scheme"),
            ("unix:", "path is missing"),
            ("https://hsm.example/v1", "path or query"),
            ("https://ada@hsm.example", "user"),
            ("", "not a URI"),
        ] {
            let error = text.parse::<Address>().unwrap_err().to_string();
            assert!(
                error.contains(problem) && error.contains("https://HOST:PORT"),
                "{text}: {error}"
            );
        }
    }
}
