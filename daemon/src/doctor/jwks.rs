//! The JWK Sets as verifiers get them, held against what the server has recorded.

use std::net::SocketAddr;

use http::{
    StatusCode,
    header::{CACHE_CONTROL, ETAG},
};
use mintwarden_worker::finding::{Check, Finding};
use rustls::pki_types::CertificateDer;

use super::{
    account::{IssuerAccount, JwksAccount, ServerAccount},
    http::{Got, get, reachable},
};
use crate::{config::Config, jwks::etag, listen::certificates::files};

/// What there is to say about the JWKS port.
pub(super) fn examine(config: &Config, account: &ServerAccount, running: bool) -> Vec<Finding> {
    let check = Check::JwksServed;
    let Some(configured) = config.listen.jwks else { return vec![] };
    if !running {
        return vec![Finding::skipped(check, configured, "the appliance does not run", "")];
    }
    let Some(address) = account.addresses.jwks.map(reachable) else {
        let remedy = "restart the appliance to apply the configuration";
        return vec![Finding::fault(check, configured, "the server does not listen here", remedy)];
    };
    let tls = !config.listen.jwks_plaintext;
    let paths: Vec<_> = account.issuers.iter().map(|i| path(&i.issuer)).collect();
    let answers = match get(address, tls, &paths) {
        Ok(answers) => answers,
        Err(error) => return vec![Finding::skipped(check, address, error, "")],
    };
    let mut findings = Vec::new();
    let first = answers.iter().find_map(|answer| answer.as_ref().ok());
    if let (Some(tls), Some(got)) = (&config.tls, first.filter(|_| tls)) {
        findings.push(certificate(&got.chain, &tls.certificate, address));
    }
    for (issuer, answer) in account.issuers.iter().zip(answers) {
        findings.push(match answer {
            Ok(got) => served(issuer, &got, address),
            Err(error) => Finding::fault(
                check,
                &issuer.issuer,
                format!("{address} does not answer: {error}"),
                "verifiers get no keys: see whether the server runs, and what is in between",
            ),
        });
    }
    findings
}

fn path(issuer: &str) -> String {
    format!("/issuers/{issuer}/jwks.json")
}

fn certificate(
    presented: &[CertificateDer<'_>],
    configured: &std::path::Path,
    address: SocketAddr,
) -> Finding {
    let check = Check::JwksCertificate;
    let read = files::read("certificate", configured)
        .and_then(|pem| files::certificates("certificate", configured, &pem));
    match read {
        Ok(chain) if chain == presented => {
            Finding::ok(check, address, "presents the configured certificate, and has its key")
        }
        Ok(_) => Finding::fault(
            check,
            address,
            "presents another certificate than the configured one",
            "if the files were just replaced, look again; else something else listens here, or they \
             cannot be used",
        ),
        Err(error) => Finding::skipped(check, address, error, ""),
    }
}

fn served(issuer: &IssuerAccount, got: &Got, address: SocketAddr) -> Finding {
    let check = Check::JwksServed;
    let name = &issuer.issuer;
    let status = got.status;
    let Some(expected) = &issuer.jwks else {
        if status == StatusCode::SERVICE_UNAVAILABLE {
            let found = "nothing is published yet, and verifiers are told to come back (503)";
            return Finding::ok(check, name, found);
        }
        let found = format!("nothing is published yet, but {address} answers {status}");
        return Finding::fault(check, name, found, "see what listens there");
    };
    let problems = problems(expected, got);
    if problems.is_empty() {
        let JwksAccount { revision, max_age, .. } = expected;
        let found = format!("revision {revision} at {address}, max-age {max_age} s");
        return Finding::ok(check, name, found);
    }
    Finding::fault(
        check,
        name,
        format!("{address}: {}", problems.join("; ")),
        "look again, in case the keyset has just changed; else see what listens there",
    )
}

fn problems(expected: &JwksAccount, got: &Got) -> Vec<String> {
    if got.status != StatusCode::OK {
        return vec![format!("answers {}", got.status)];
    }
    let mut problems = Vec::new();
    if etag(&got.body) != expected.etag {
        let revision = expected.revision;
        problems.push(format!("serves other keys than those of keyset revision {revision}"));
    }
    if got.header(ETAG) != expected.etag {
        problems.push(format!("its ETag is {:?}, not {}", got.header(ETAG), expected.etag));
    }
    let caching = got.header(CACHE_CONTROL);
    let max_age = format!("max-age={}", expected.max_age);
    if !caching.split(',').any(|directive| directive.trim() == max_age) {
        problems.push(format!("its Cache-Control is {caching:?}, without {max_age}"));
    }
    problems
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderValue};
    use mintwarden_worker::finding::Verdict;

    use super::*;

    const BODY: &[u8] = br#"{"keys":[]}"#;

    fn got() -> Got {
        let mut headers = HeaderMap::new();
        headers.insert(ETAG, HeaderValue::from_str(&etag(BODY)).expect("an ETag"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("public, max-age=600"));
        Got { status: StatusCode::OK, headers, body: BODY.to_vec(), chain: vec![] }
    }

    fn finding(jwks: bool, got: &Got) -> Finding {
        let jwks = jwks.then(|| JwksAccount { revision: 3, etag: etag(BODY), max_age: 600 });
        let issuer = IssuerAccount { issuer: "payments".into(), keyset: None, jwks };
        served(&issuer, got, SocketAddr::from(([127, 0, 0, 1], 1)))
    }

    #[test]
    fn what_verifiers_get_has_to_be_what_is_recorded() {
        assert_eq!(finding(true, &got()).verdict, Verdict::Ok);
        let body = Got { body: br#"{"keys":[{}]}"#.to_vec(), ..got() };
        let mut tag = got();
        tag.headers.insert(ETAG, HeaderValue::from_static("\"x\""));
        let mut long = got();
        long.headers.insert(CACHE_CONTROL, HeaderValue::from_static("public, max-age=6000"));
        let status = Got { status: StatusCode::NOT_FOUND, ..got() };
        for (bad, said) in [
            (body, "other keys than those of keyset revision 3"),
            (tag, "its ETag"),
            (long, "max-age=600"),
            (status, "404"),
        ] {
            let found = finding(true, &bad);
            assert_eq!(found.verdict, Verdict::Fault);
            assert!(found.found.contains(said), "{said:?} is not in: {}", found.found);
        }
    }

    #[test]
    fn a_port_where_nobody_listens_is_a_fault() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        // Bound, so that nobody else listens there either.
        let nobody = runtime.expect("a runtime").block_on(async {
            let socket = tokio::net::TcpSocket::new_v4()?;
            socket.bind("127.0.0.1:0".parse().expect("an address"))?;
            Ok::<_, std::io::Error>(socket)
        });
        let nobody = nobody.expect("a port");
        let address = nobody.local_addr().expect("its address");
        let answers = get(address, true, &[path("payments")]).expect("a runtime");
        assert!(matches!(&answers[..], [Err(error)] if error.contains("refused")), "{answers:?}");
    }

    #[test]
    fn before_init_there_is_nothing_to_serve() {
        let unavailable = Got { status: StatusCode::SERVICE_UNAVAILABLE, ..got() };
        assert_eq!(finding(false, &unavailable).verdict, Verdict::Ok);
        assert_eq!(finding(false, &got()).verdict, Verdict::Fault);
    }
}
