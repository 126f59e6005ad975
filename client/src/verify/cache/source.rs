//! Where keys are read from.

use std::{net::IpAddr, time::Duration};

use reqwest::{
    Response, StatusCode, Url,
    header::{CACHE_CONTROL, ETAG, HeaderMap, HeaderName, IF_NONE_MATCH},
    redirect::Policy,
};
use rustls::{ClientConfig, RootCertStore};

use super::super::{JwksError, jwk::Jwks};
use crate::{Issuer, TrustAnchors, tls};

/// Bound on a JWK Set, bytes.
const MAX_BYTES: usize = 256 * 1024;
const TIMEOUT: Duration = Duration::from_secs(10);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

pub(super) enum Source {
    Https(Https),
    Appliance(Issuer),
}

pub(super) struct Fetched {
    /// Keys and entity tag; `None` where nothing has changed.
    pub(super) news: Option<(Jwks, Option<String>)>,
    pub(super) max_age: Option<Duration>,
}

impl Source {
    pub(super) async fn fetch(&self, etag: Option<&str>) -> Result<Fetched, JwksError> {
        match self {
            Self::Https(https) => https.fetch(etag).await,
            Self::Appliance(issuer) => {
                let answer = issuer.jwks().await?;
                let max_age = answer.max_age.and_then(|age| Duration::try_from(age).ok());
                let news = Some((Jwks::parse(&answer.jwks)?, Some(answer.etag)));
                Ok(Fetched { news, max_age })
            }
        }
    }
}

pub(super) struct Https {
    url: Url,
    ca: Option<TrustAnchors>,
}

impl Https {
    /// Reads everything once: what cannot work is an error now.
    pub(super) fn new(url: String, ca: Option<TrustAnchors>) -> Result<Self, JwksError> {
        let wrong =
            |problem: &str| JwksError::Address { url: url.clone(), problem: problem.into() };
        let parsed = Url::parse(&url).map_err(|error| wrong(&error.to_string()))?;
        match parsed.scheme() {
            "https" if ca.is_none() => {
                return Err(wrong(
                    "https needs a CA: give the one that signed the server's certificate",
                ));
            }
            "https" => {}
            "http" if is_loopback(&parsed) => {}
            _ => return Err(wrong("keys are read over https")),
        }
        let https = Self { url: parsed, ca };
        https.tls()?;
        Ok(https)
    }

    fn tls(&self) -> Result<ClientConfig, JwksError> {
        let roots = self.ca.as_ref().map_or(Ok(RootCertStore::empty()), tls::roots)?;
        Ok(tls::believing(roots)?.with_no_client_auth())
    }

    async fn fetch(&self, etag: Option<&str>) -> Result<Fetched, JwksError> {
        // A client for each reading: they are rare, and so the CA may be replaced in place.
        let client = reqwest::Client::builder()
            .use_preconfigured_tls(self.tls()?)
            .no_proxy()
            .redirect(Policy::none())
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(TIMEOUT)
            .build()
            .map_err(|error| self.failed(&error))?;
        let mut request = client.get(self.url.clone());
        if let Some(etag) = etag {
            request = request.header(IF_NONE_MATCH, etag);
        }
        let response = request.send().await.map_err(|error| self.failed(&error))?;
        let max_age = max_age(response.headers());
        match response.status() {
            StatusCode::NOT_MODIFIED if etag.is_some() => Ok(Fetched { news: None, max_age }),
            StatusCode::OK => {
                let etag = header(response.headers(), ETAG).map(str::to_owned);
                let keys = Jwks::parse(&self.body(response).await?)?;
                Ok(Fetched { news: Some((keys, etag)), max_age })
            }
            status => Err(JwksError::Status { url: self.url.to_string(), status: status.as_u16() }),
        }
    }

    async fn body(&self, mut response: Response) -> Result<Vec<u8>, JwksError> {
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| self.failed(&error))? {
            if body.len() + chunk.len() > MAX_BYTES {
                return Err(JwksError::TooLong { url: self.url.to_string(), limit: MAX_BYTES });
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }

    fn failed(&self, error: &reqwest::Error) -> JwksError {
        // The deepest cause says most; what wraps it repeats the address.
        let causes = std::iter::successors(Some(error as &dyn std::error::Error), |e| e.source());
        let problem = causes.last().map(ToString::to_string).unwrap_or_default();
        JwksError::Fetch { url: self.url.to_string(), problem }
    }
}

fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

/// `max-age` of `Cache-Control` (RFC 9111 section 5.2.2.1).
fn max_age(headers: &HeaderMap) -> Option<Duration> {
    let directives = header(headers, CACHE_CONTROL)?.split(',');
    let seconds =
        directives.filter_map(|directive| directive.trim().strip_prefix("max-age=")).next()?;
    seconds.parse().ok().map(Duration::from_secs)
}

fn header(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}
