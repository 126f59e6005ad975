use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use mintwarden_client::Endpoint;
use serde::Deserialize;

use crate::args::{Command, Connection, KeysCommand, parse_timeout};

const DEFAULT_ENDPOINT: &str = "unix:/run/mintwarden/api.sock";
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);
/// An RSA key takes an HSM many seconds to make. As long as an appliance waits with its answer.
const DEFAULT_TIMEOUT_OF_MAKING: Duration = Duration::from_secs(60);

/// How to reach the appliance, from options, environment and file.
#[derive(Debug, PartialEq)]
pub(crate) struct Settings {
    /// One or more.
    pub(crate) endpoints: Vec<Endpoint>,
    pub(crate) cert: Option<PathBuf>,
    pub(crate) key: Option<PathBuf>,
    pub(crate) ca: Option<PathBuf>,
    /// Where it was given.
    pub(crate) timeout: Option<Duration>,
}

/// The configuration file cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    #[error("{}: {source}; check the path and its permissions", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error(
        "{}: {source}known keys are endpoint, cert, key, ca and timeout, all of them strings; \
         endpoint may also be a list",
        path.display()
    )]
    Parse { path: PathBuf, source: Box<toml::de::Error> },
    #[error("{}: timeout: {problem}", path.display())]
    Timeout { path: PathBuf, problem: String },
}

/// The file's shape.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    endpoint: Endpoints,
    cert: Option<PathBuf>,
    key: Option<PathBuf>,
    ca: Option<PathBuf>,
    timeout: Option<String>,
}

/// One endpoint or a list of them.
#[derive(Debug, Deserialize)]
#[serde(
    untagged,
    expecting = "endpoint: write \"https://HOST:PORT\" or \"unix:/PATH\", or a list of such, in \
                 which { url = \"…\", server_name = \"…\" } names one whose certificate has another name"
)]
enum Endpoints {
    One(String),
    Several(Vec<Listed>),
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Listed {
    Url(String),
    Named(Named),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Named {
    url: String,
    server_name: String,
}

impl Default for Endpoints {
    fn default() -> Self {
        Self::Several(Vec::new())
    }
}

impl From<Endpoints> for Vec<Endpoint> {
    fn from(endpoints: Endpoints) -> Self {
        match endpoints {
            Endpoints::One(url) => vec![url.into()],
            Endpoints::Several(listed) => listed.into_iter().map(Endpoint::from).collect(),
        }
    }
}

impl From<Listed> for Endpoint {
    fn from(listed: Listed) -> Self {
        match listed {
            Listed::Url(url) => Self::new(url),
            Listed::Named(Named { url, server_name }) => Self::new(url).server_name(server_name),
        }
    }
}

impl Settings {
    /// Completes the options, which have taken in the environment already, from the file. The
    /// default file need not exist; one that was asked for has to.
    pub(crate) fn resolve(
        options: Connection,
        default_file: Option<PathBuf>,
    ) -> Result<Self, ConfigError> {
        let asked = options.config.is_some();
        let file = match options.config.or(default_file) {
            Some(path) => File::read(&path, asked)?,
            None => (File::default(), None),
        };
        let (file, timeout) = file;
        let given: Vec<Endpoint> = options.endpoint.into_iter().map(Endpoint::from).collect();
        let default = || vec![DEFAULT_ENDPOINT.into()];
        let endpoints = [given, file.endpoint.into()].into_iter().find(|list| !list.is_empty());
        let endpoints = endpoints.unwrap_or_else(default);
        Ok(Self {
            endpoints,
            cert: options.cert.or(file.cert),
            key: options.key.or(file.key),
            ca: options.ca.or(file.ca),
            timeout: options.timeout.or(timeout),
        })
    }

    /// How long a call of this command may take.
    pub(crate) fn timeout(&self, command: &Command) -> Duration {
        self.timeout.unwrap_or(match command {
            // A TPM makes its attestation key anew whenever it is asked.
            Command::Init { .. }
            | Command::Recover { .. }
            | Command::Keys(KeysCommand::Attest(_)) => DEFAULT_TIMEOUT_OF_MAKING,
            _ => DEFAULT_TIMEOUT,
        })
    }
}

impl File {
    /// The file with its paths made independent of the working directory, and its timeout.
    fn read(path: &Path, asked: bool) -> Result<(Self, Option<Duration>), ConfigError> {
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound && !asked => {
                return Ok(Default::default());
            }
            Err(source) => return Err(ConfigError::Read { path: path.to_owned(), source }),
        };
        let file: Self = toml::from_str(&text).map_err(|source| ConfigError::Parse {
            path: path.to_owned(),
            source: Box::new(source),
        })?;
        let timeout = file.timeout.as_deref().map(parse_timeout).transpose();
        let timeout =
            timeout.map_err(|problem| ConfigError::Timeout { path: path.to_owned(), problem })?;
        let directory = path.parent().unwrap_or(Path::new(""));
        let absolute = |path: Option<PathBuf>| path.map(|path| directory.join(path));
        let file = Self {
            cert: absolute(file.cert),
            key: absolute(file.key),
            ca: absolute(file.ca),
            ..file
        };
        Ok((file, timeout))
    }
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    fn file(text: &str) -> (TempDir, PathBuf) {
        let dir = TempDir::new().unwrap();
        let path = dir.path().join("ctl.toml");
        fs::write(&path, text).unwrap();
        (dir, path)
    }

    #[test]
    fn options_come_before_the_file_and_the_file_before_defaults() {
        let (dir, path) =
            file("endpoint = 'https://file'\ncert = 'a.crt'\nca = '/etc/ca.crt'\ntimeout = '3s'");
        let options =
            Connection { endpoint: vec!["https://option".into()], ..Connection::default() };
        let settings = Settings::resolve(options, Some(path)).unwrap();
        assert_eq!(
            settings,
            Settings {
                endpoints: vec!["https://option".into()],
                cert: Some(dir.path().join("a.crt")),
                key: None,
                ca: Some("/etc/ca.crt".into()),
                timeout: Some(Duration::from_secs(3)),
            }
        );
    }

    #[test]
    fn there_may_be_several_endpoints_with_names_of_their_own() {
        let (_dir, path) = file(
            "endpoint = ['https://a', { url = 'https://192.0.2.17', server_name = 'hsm-b.example' }]",
        );
        let settings = Settings::resolve(Connection::default(), Some(path)).unwrap();
        let named = Endpoint::new("https://192.0.2.17").server_name("hsm-b.example");
        assert_eq!(settings.endpoints, ["https://a".into(), named]);
    }

    #[test]
    fn the_default_file_need_not_exist_but_one_asked_for_has_to() {
        let settings =
            Settings::resolve(Connection::default(), Some("/nowhere/ctl.toml".into())).unwrap();
        assert_eq!(settings.endpoints, [DEFAULT_ENDPOINT.into()]);
        let options =
            Connection { config: Some("/nowhere/ctl.toml".into()), ..Connection::default() };
        let error = Settings::resolve(options, None).unwrap_err().to_string();
        assert!(error.contains("/nowhere/ctl.toml"), "{error}");
    }

    #[test]
    fn errors_name_file_key_and_remedy() {
        for (text, named) in [
            ("endpont = 'x'", "endpont"),
            ("endpoint = 7", "a list of such"),
            ("endpoint = [{ url = 'https://a', sever_name = 'b' }]", "server_name"),
            ("timeout = 'soon'", "timeout"),
            ("timeout = '0s'", "10s"),
        ] {
            let (_dir, path) = file(text);
            let error =
                Settings::resolve(Connection::default(), Some(path)).unwrap_err().to_string();
            assert!(error.contains(named) && error.contains("ctl.toml"), "{error}");
        }
    }
}
