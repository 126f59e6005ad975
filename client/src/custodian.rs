use std::sync::Arc;

use mintwarden_proto::v1::custodian_service_client::CustodianServiceClient;

use crate::{Error, api, call::Caller};

/// What custodians and auditors do. Made by [`Client::custodian`](crate::Client::custodian).
///
/// Reading is repeated when the connection fails; acts are sent once, since only the person who
/// asked can tell whether to ask again.
///
/// ```no_run
/// # async fn example(client: mintwarden_client::Client) -> Result<(), mintwarden_client::Error> {
/// let custodian = client.custodian();
/// custodian.init("payments-tts", "first keys, change 4711").await?;
/// for keyset in custodian.list_keys(None).await? {
///     for key in keyset.keys {
///         println!("{}: {} {}", keyset.issuer, key.kid, key.state().as_str_name());
///     }
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Custodian {
    caller: Arc<Caller>,
}

impl Custodian {
    pub(crate) fn new(caller: Arc<Caller>) -> Self {
        Self { caller }
    }

    /// Creates the first keys of an issuer that has never published. `reason` is kept with the
    /// act. The appliance carries it through even if this future is dropped. Role: custodian.
    ///
    /// # Errors
    ///
    /// Any [`Error`]; a refusal where the issuer has keys already.
    pub async fn init(&self, issuer: &str, reason: &str) -> Result<api::InitResponse, Error> {
        let request = api::InitRequest { issuer: issuer.to_owned(), reason: reason.to_owned() };
        self.caller
            .act("Init", request, |connection, request| async move {
                CustodianServiceClient::new(connection).init(request).await
            })
            .await
    }

    /// The keys of one issuer, or of every issuer that the caller may see. Any role.
    ///
    /// # Errors
    ///
    /// Any [`Error`].
    pub async fn list_keys(&self, issuer: Option<&str>) -> Result<Vec<api::Keyset>, Error> {
        let request = api::ListKeysRequest { issuer: issuer.unwrap_or_default().to_owned() };
        let response = self
            .caller
            .read("ListKeys", request, |connection, request| async move {
                CustodianServiceClient::new(connection).list_keys(request).await
            })
            .await?;
        Ok(response.keysets)
    }

    /// The appliance's issuers and devices, as far as the caller may see them. Any role.
    ///
    /// # Errors
    ///
    /// Any [`Error`].
    pub async fn status(&self) -> Result<api::Status, Error> {
        self.caller
            .read("GetStatus", api::GetStatusRequest {}, |connection, request| async move {
                CustodianServiceClient::new(connection).get_status(request).await
            })
            .await
    }

    /// Lets a parked device try again. `reason` is kept with the act. Role: custodian of an issuer
    /// that uses the device.
    ///
    /// # Errors
    ///
    /// Any [`Error`].
    pub async fn resume_device(&self, device: &str, reason: &str) -> Result<(), Error> {
        let request =
            api::ResumeDeviceRequest { device: device.to_owned(), reason: reason.to_owned() };
        self.caller
            .act("ResumeDevice", request, |connection, request| async move {
                CustodianServiceClient::new(connection).resume_device(request).await
            })
            .await?;
        Ok(())
    }
}
