/// Where an appliance listens: `https://HOST[:PORT]` (mutual TLS, port 7443 by default) or
/// `unix:/PATH` (peer credentials).
///
/// A text is an endpoint; what else there is to say of one is said by its methods:
///
/// ```
/// use mintwarden_client::{Client, Endpoint};
///
/// let builder = Client::builder()
///     .endpoint("unix:/run/mintwarden/api.sock")
///     .endpoint(Endpoint::new("https://192.0.2.17:7443").server_name("hsm-b.example"));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    pub(crate) url: String,
    pub(crate) server_name: Option<String>,
}

impl Endpoint {
    /// An endpoint; whether it is one shows when the client is built.
    pub fn new(url: impl Into<String>) -> Self {
        Self { url: url.into(), server_name: None }
    }

    /// The DNS name or IP address that this appliance's certificate has to carry, where that is not
    /// the endpoint's host. Comes before [`Builder::server_name`](crate::Builder::server_name).
    #[must_use]
    pub fn server_name(mut self, name: impl Into<String>) -> Self {
        self.server_name = Some(name.into());
        self
    }
}

impl<T: Into<String>> From<T> for Endpoint {
    fn from(url: T) -> Self {
        Self::new(url)
    }
}
