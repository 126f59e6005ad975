//! The way to a TPM: a TCTI of the TCG's software stack (TSS 2.0 TCTI Specification).

use std::{
    fmt,
    net::IpAddr,
    path::{Path, PathBuf},
    str::FromStr,
};

use serde::{Deserialize, Serialize};

/// The way to a TPM, in the words of tpm2-tools and tpm2-tss.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Tcti {
    /// `device:/dev/tpmrm0`: a device node of the kernel.
    Device(PathBuf),
    /// `swtpm:host=…,port=…`: a swtpm over TCP. Its control channel is at the next port.
    SwtpmTcp {
        /// Its name or address.
        host: String,
        /// The port of its command channel.
        port: u16,
    },
    /// `tabrmd`: the access broker of the system bus.
    Tabrmd,
}

/// A text that is no [`Tcti`], with the remedy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TctiError {
    /// The word before the colon is not known.
    #[error(
        "it begins with none of device, swtpm and tabrmd: write e.g. \"device:/dev/tpmrm0\", \"swtpm:host=localhost,port=2321\" or \"tabrmd\""
    )]
    Kind,
    /// A path that is not absolute.
    #[error("it names no absolute path: write e.g. \"device:/dev/tpmrm0\"")]
    Path,
    /// No host with a port.
    #[error("swtpm has host and port: write \"swtpm:host=localhost,port=2321\"")]
    Swtpm,
    /// A socket in the file system, which the worker's TPM software stack does not take.
    #[error(
        "a swtpm is reached over TCP only: start it with --server type=tcp and write \"swtpm:host=localhost,port=2321\""
    )]
    SwtpmPath,
    /// A port that is none.
    #[error(
        "its port is none: write a number from 1 to 65534; the next one is the control channel"
    )]
    Port,
    /// A host that is none.
    #[error("its host is none: write a name or an address")]
    Host,
    /// `tabrmd` with more behind it.
    #[error("tabrmd takes nothing after it: the access broker of the system bus is used")]
    Tabrmd,
}

impl Tcti {
    /// Whether a resource manager stands before the TPM, which keeps its users apart and its memory free.
    #[must_use]
    pub fn is_managed(&self) -> bool {
        match self {
            Self::Device(path) => path
                .file_name()
                .and_then(|name| name.to_str())
                .is_some_and(|name| name.starts_with("tpmrm")),
            Self::SwtpmTcp { .. } => false,
            Self::Tabrmd => true,
        }
    }

    /// Whether commands may leave this machine. A name other than `localhost` may mean any.
    #[must_use]
    pub fn leaves_the_machine(&self) -> bool {
        match self {
            Self::SwtpmTcp { host, .. } => {
                let address = host.parse::<IpAddr>();
                host != "localhost" && !address.is_ok_and(|address| address.is_loopback())
            }
            Self::Device(_) | Self::Tabrmd => false,
        }
    }
}

impl FromStr for Tcti {
    type Err = TctiError;

    fn from_str(text: &str) -> Result<Self, TctiError> {
        let (kind, rest) = text.split_once(':').unwrap_or((text, ""));
        match kind {
            "device" => absolute(rest).map(Self::Device),
            "swtpm" => swtpm(rest),
            "tabrmd" if text == "tabrmd" => Ok(Self::Tabrmd),
            "tabrmd" => Err(TctiError::Tabrmd),
            _ => Err(TctiError::Kind),
        }
    }
}

fn absolute(path: &str) -> Result<PathBuf, TctiError> {
    let is_path = Path::new(path).is_absolute() && !path.contains(['\0', ',']);
    is_path.then(|| path.into()).ok_or(TctiError::Path)
}

fn swtpm(text: &str) -> Result<Tcti, TctiError> {
    let (mut host, mut port) = (None, None);
    for part in text.split(',') {
        let (key, value) = part.split_once('=').ok_or(TctiError::Swtpm)?;
        let place = match key {
            "host" => &mut host,
            "port" => &mut port,
            "path" => return Err(TctiError::SwtpmPath),
            _ => return Err(TctiError::Swtpm),
        };
        if place.replace(value).is_some() {
            return Err(TctiError::Swtpm);
        }
    }
    match (host, port) {
        (Some(host), Some(port)) => Ok(Tcti::SwtpmTcp {
            host: is_host(host).then(|| host.to_owned()).ok_or(TctiError::Host)?,
            port: port
                .parse()
                .ok()
                .filter(|port| (1..u16::MAX).contains(port))
                .ok_or(TctiError::Port)?,
        }),
        _ => Err(TctiError::Swtpm),
    }
}

/// A name of RFC 1123 or an address.
fn is_host(host: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    host.parse::<IpAddr>().is_ok() || (host.len() <= 253 && host.split('.').all(label))
}

impl fmt::Display for Tcti {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Device(path) => write!(f, "device:{}", path.display()),
            Self::SwtpmTcp { host, port } => write!(f, "swtpm:host={host},port={port}"),
            Self::Tabrmd => f.write_str("tabrmd"),
        }
    }
}

impl TryFrom<String> for Tcti {
    type Error = TctiError;

    fn try_from(text: String) -> Result<Self, TctiError> {
        text.parse()
    }
}

impl From<Tcti> for String {
    fn from(tcti: Tcti) -> Self {
        tcti.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_way_to_a_tpm_is_read_and_written_the_same() {
        for (text, managed) in [
            ("device:/dev/tpmrm0", true),
            ("device:/dev/tpm0", false),
            ("swtpm:host=localhost,port=2321", false),
            ("swtpm:host=10.0.0.7,port=1", false),
            ("swtpm:host=::1,port=65534", false),
            ("tabrmd", true),
        ] {
            let tcti: Tcti = text.parse().expect(text);
            assert_eq!((tcti.to_string().as_str(), tcti.is_managed()), (text, managed));
        }
        assert_eq!("swtpm:port=2,host=a".parse(), "swtpm:host=a,port=2".parse::<Tcti>());
    }

    #[test]
    fn what_is_not_known_to_be_this_machine_may_be_another() {
        for (text, leaves) in [
            ("device:/dev/tpmrm0", false),
            ("tabrmd", false),
            ("swtpm:host=localhost,port=2321", false),
            ("swtpm:host=127.0.0.1,port=2321", false),
            ("swtpm:host=::1,port=2321", false),
            ("swtpm:host=10.0.0.7,port=2321", true),
            ("swtpm:host=tpm,port=2321", true),
        ] {
            let tcti: Tcti = text.parse().expect(text);
            assert_eq!(tcti.leaves_the_machine(), leaves, "{text}");
        }
    }

    #[test]
    fn wrong_ones_are_answered_with_the_remedy() {
        for (text, problem) in [
            ("", TctiError::Kind),
            ("/dev/tpmrm0", TctiError::Kind),
            ("mssim:host=localhost,port=2321", TctiError::Kind),
            ("cmd:sh", TctiError::Kind),
            ("device", TctiError::Path),
            ("device:tpm0", TctiError::Path),
            ("swtpm", TctiError::Swtpm),
            ("swtpm:host=localhost", TctiError::Swtpm),
            ("swtpm:port=2321", TctiError::Swtpm),
            ("swtpm:host=a,port=1,path=/x", TctiError::SwtpmPath),
            ("swtpm:host=a,host=b,port=1", TctiError::Swtpm),
            ("swtpm:host=a,port=1,tls=1", TctiError::Swtpm),
            ("swtpm:host=a b,port=1", TctiError::Host),
            ("swtpm:host=,port=1", TctiError::Host),
            ("swtpm:host=a,port=0", TctiError::Port),
            ("swtpm:host=a,port=65535", TctiError::Port),
            ("swtpm:host=a,port=x", TctiError::Port),
            ("swtpm:path=/run/swtpm.sock", TctiError::SwtpmPath),
            ("tabrmd:bus_name=x", TctiError::Tabrmd),
        ] {
            assert_eq!(text.parse::<Tcti>(), Err(problem), "{text}");
        }
    }
}
