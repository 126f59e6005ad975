use std::{fmt, sync::Arc, time::Duration};

use bytes::Bytes;
use mintwarden_proto::v1::{
    jwks_service_client::JwksServiceClient, signing_service_client::SigningServiceClient,
};

use crate::{
    Error, Token, api, clock,
    join::{self, Failure, Joiner},
    observe,
};

/// Signs for one issuer. Made by [`Client::issuer`](crate::Client::issuer); cheap to clone.
#[derive(Clone)]
pub struct Issuer {
    joiner: Arc<Joiner>,
}

/// The answer to [`Issuer::sign_batch`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Batch {
    /// The `kid` of the one key that signed all of it: RFC 7638 SHA-256 thumbprint, base64url.
    /// Empty if every item was refused.
    pub kid: String,
    /// One result for each payload, in the order given.
    pub tokens: Vec<Result<Token, Error>>,
}

impl Issuer {
    pub(crate) fn new(joiner: Arc<Joiner>) -> Self {
        Self { joiner }
    }

    /// The issuer's name.
    pub fn name(&self) -> &str {
        self.joiner.issuer()
    }

    /// Signs one payload, a JSON object in UTF-8, byte for byte; answers with the complete token.
    /// Waits as long as the client's timeout allows.
    ///
    /// Calls that run at the same time join into batches. There is no timer: a call goes out at
    /// once while fewer than [`max_in_flight`](crate::Builder::max_in_flight) batches are in
    /// flight, otherwise with whatever else waits when one comes back. Dropping the future gives
    /// up this call only.
    ///
    /// What is worth trying again is tried again, at another endpoint where there is one: a broken
    /// connection, an appliance that is unavailable, a key that was replaced meanwhile.
    ///
    /// ```no_run
    /// # async fn example(issuer: mintwarden_client::Issuer) -> Result<(), mintwarden_client::Error> {
    /// # use std::time::Duration;
    /// use mintwarden_client::TxnClaims;
    ///
    /// let claims = TxnClaims::new(Duration::from_secs(60))
    ///     .audience("trust-domain.example")
    ///     .txn("97053963-771d-49cc-a4e3-20aad399c312")
    ///     .subject("d084sdrt234fsaw34tr23t")
    ///     .scope("trade.stocks")
    ///     .requesting_workload("spiffe://trust-domain.example/apigateway");
    /// let token = issuer.sign(claims).await?;
    /// println!("Txn-Token: {token}");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] names the claim and the rule where claims are outside the profile;
    /// otherwise any [`Error`].
    ///
    /// # Panics
    ///
    /// Outside of a Tokio runtime.
    pub async fn sign(&self, claims: impl Into<Bytes>) -> Result<Token, Error> {
        self.sign_within(claims, self.joiner.caller().settings.timeout).await
    }

    /// Like [`sign`](Self::sign), with a time limit of its own.
    ///
    /// # Errors
    ///
    /// As for [`sign`](Self::sign).
    pub async fn sign_within(
        &self,
        claims: impl Into<Bytes>,
        within: Duration,
    ) -> Result<Token, Error> {
        let claims = claims.into();
        let observer = self.joiner.caller().pool.observer();
        let Some(observer) = observer else { return self.signed(claims, within).await };
        let begun = clock::now();
        let result = self.signed(claims, within).await;
        observer.sign(&observe::Sign {
            issuer: self.name(),
            latency: clock::now().saturating_duration_since(begun),
            error: result.as_ref().err(),
        });
        result
    }

    async fn signed(&self, claims: Bytes, within: Duration) -> Result<Token, Error> {
        let deadline = clock::deadline(within);
        let mut attempts = 1;
        loop {
            let refused = match self.joiner.sign(claims.clone(), deadline).await {
                Ok(signed) => return Ok(signed.token(&claims)),
                Err(Failure::Batch(error)) => return Err(error),
                Err(Failure::Item(error)) => error,
            };
            self.joiner.caller().repeat_item(&refused, attempts, deadline).await?;
            attempts += 1;
        }
    }

    /// Signs up to 1024 payloads, 4 MiB together, with one key, in one call of its own. An item
    /// that is refused fails alone.
    ///
    /// ```no_run
    /// # async fn example(issuer: mintwarden_client::Issuer) -> Result<(), mintwarden_client::Error> {
    /// # let payloads = vec![];
    /// for (number, token) in issuer.sign_batch(payloads).await?.tokens.into_iter().enumerate() {
    ///     match token {
    ///         Ok(token) => println!("{token}"),
    ///         Err(error) => eprintln!("{number}: {:?} breaks {:?}", error.claim(), error.rule()),
    ///     }
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// The call as a whole is tried again like [`sign`](Self::sign); single items are not, so that one key
    /// signs all of them.
    ///
    /// # Errors
    ///
    /// Any [`Error`], where no item could have succeeded.
    pub async fn sign_batch(&self, claims: Vec<Bytes>) -> Result<Batch, Error> {
        let deadline = self.joiner.caller().deadline();
        let response = self.joiner.send(claims.clone(), deadline).await?;
        let kid = response.kid.clone();
        let tokens = join::results(response, claims.len())?
            .zip(&claims)
            .map(|(signed, claims)| signed.map(|signed| signed.token(claims)))
            .collect();
        Ok(Batch { kid, tokens })
    }

    /// What the issuer signs, and within which limits.
    ///
    /// # Errors
    ///
    /// Any [`Error`].
    pub async fn describe(&self) -> Result<api::Issuer, Error> {
        let request = api::DescribeIssuerRequest { issuer: self.name().to_owned() };
        let caller = self.joiner.caller();
        caller
            .read("DescribeIssuer", request, |connection, request| async move {
                SigningServiceClient::new(connection).describe_issuer(request).await
            })
            .await
    }

    /// The issuer's published JWK Set (RFC 7517 section 5), with its revision.
    ///
    /// # Errors
    ///
    /// Any [`Error`].
    pub async fn jwks(&self) -> Result<api::Jwks, Error> {
        let request = api::GetJwksRequest { issuer: self.name().to_owned() };
        let caller = self.joiner.caller();
        caller
            .read("GetJwks", request, |connection, request| async move {
                JwksServiceClient::new(connection).get_jwks(request).await
            })
            .await
    }
}

impl fmt::Debug for Issuer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Issuer").field("name", &self.name()).finish_non_exhaustive()
    }
}
