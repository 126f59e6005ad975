//! The JWK Set over HTTPS, as verifiers and the caches before them read it.

use mintwarden_tests::{Appliance, ISSUER};
use reqwest::{
    Method, StatusCode,
    header::{ALLOW, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, ETAG, IF_NONE_MATCH},
};
use toml::toml;

#[tokio::test]
async fn the_jwks_is_served_at_both_of_its_paths() {
    let appliance =
        Appliance::softhsm().with_issuer(toml! { jwks_max_age = "90s" }).start_initialised().await;
    let https = appliance.https();
    let mut bodies = vec![];
    for url in [appliance.jwks_url(ISSUER), appliance.url("/.well-known/jwks.json")] {
        let answer = https.get(url).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
        assert_eq!(answer.headers()[CONTENT_TYPE], "application/jwk-set+json");
        assert_eq!(answer.headers()[CACHE_CONTROL], "public, max-age=90");
        assert_eq!(answer.headers()["x-content-type-options"], "nosniff");
        let etag = answer.headers()[ETAG].to_str().unwrap();
        assert!(etag.starts_with('"') && etag.ends_with('"'), "a strong tag: {etag}");
        bodies.push(answer.bytes().await.unwrap());
    }
    assert_eq!(bodies[0], bodies[1]);
    // Only what a verifier needs, and nothing private.
    let set: serde_json::Value = serde_json::from_slice(&bodies[0]).unwrap();
    for key in set["keys"].as_array().unwrap() {
        let mut names: Vec<_> = key.as_object().unwrap().keys().map(String::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["alg", "crv", "kid", "kty", "use", "x", "y"]);
        assert_eq!((&key["alg"], &key["use"]), (&"ES256".into(), &"sig".into()));
    }
}

#[tokio::test]
async fn a_reader_that_has_the_set_is_told_so() {
    let appliance = Appliance::softhsm().start_initialised().await;
    let (https, url) = (appliance.https(), appliance.jwks_url(ISSUER));
    let etag = https.get(&url).send().await.unwrap().headers()[ETAG].clone();
    let etag = etag.to_str().unwrap();
    for tags in [etag.to_owned(), format!("W/{etag}"), format!("\"x\", {etag}"), "*".to_owned()] {
        let answer = https.get(&url).header(IF_NONE_MATCH, &tags).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::NOT_MODIFIED, "{tags}");
        assert_eq!(answer.headers()[ETAG], etag);
        assert_eq!(answer.headers()[CACHE_CONTROL], "public, max-age=600");
        assert!(answer.bytes().await.unwrap().is_empty());
    }
    let answer = https.get(&url).header(IF_NONE_MATCH, "\"other\"").send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
}

#[tokio::test]
async fn head_tells_all_but_the_body() {
    let appliance = Appliance::softhsm().start_initialised().await;
    let (https, url) = (appliance.https(), appliance.jwks_url(ISSUER));
    let get = https.get(&url).send().await.unwrap();
    let head = https.head(&url).send().await.unwrap();
    assert_eq!(head.status(), StatusCode::OK);
    for name in [ETAG, CONTENT_TYPE, CACHE_CONTROL, CONTENT_LENGTH] {
        assert_eq!(head.headers()[&name], get.headers()[&name], "{name}");
    }
    assert!(head.bytes().await.unwrap().is_empty());
}

#[tokio::test]
async fn other_paths_and_methods_are_refused() {
    let appliance = Appliance::softhsm().start_initialised().await;
    let https = appliance.https();
    for path in ["/", "/issuers", "/issuers/other/jwks.json", "/issuers/payments-tts", "/metrics"] {
        let answer = https.get(appliance.url(path)).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::NOT_FOUND, "{path}");
    }
    for method in [Method::POST, Method::PUT, Method::DELETE] {
        let answer = https.request(method, appliance.jwks_url(ISSUER)).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::METHOD_NOT_ALLOWED);
        assert!(answer.headers()[ALLOW].to_str().unwrap().contains("GET"));
    }
}

#[tokio::test]
async fn no_issuer_is_well_known_where_there_are_several() {
    let appliance = Appliance::softhsm()
        .with_issuer(toml! { name = "a" })
        .with_issuer(toml! { name = "b" })
        .start_initialised()
        .await;
    let https = appliance.https();
    let answer = https.get(appliance.url("/.well-known/jwks.json")).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::NOT_FOUND);
    let etag = async |issuer| {
        let answer = https.get(appliance.jwks_url(issuer)).send().await.unwrap();
        answer.headers()[ETAG].clone()
    };
    assert_ne!(etag("a").await, etag("b").await);
}

#[tokio::test]
async fn the_set_stays_the_same_over_a_restart() {
    let mut appliance = Appliance::softhsm().start_initialised().await;
    let fetch = async |appliance: &Appliance| {
        let answer = appliance.https().get(appliance.jwks_url(ISSUER)).send().await.unwrap();
        (answer.headers()[ETAG].clone(), answer.bytes().await.unwrap())
    };
    let before = fetch(&appliance).await;
    appliance.stop().await;
    appliance.start().await;
    assert_eq!(fetch(&appliance).await, before);
}

#[tokio::test]
async fn without_tls_the_set_is_served_on_loopback_only() {
    let appliance = Appliance::softhsm()
        .with(|config| {
            config.remove("tls");
            config["listen"].as_table_mut().unwrap().remove("grpc");
            let own = rustix::process::geteuid().as_raw();
            config.insert(
                "grant".into(),
                toml::Value::Array(vec![
                    toml! { role = "signer"
                    to = ["unix:uid=4294967294"]
                    issuers = ["payments-tts"] }
                    .into(),
                ]),
            );
            config["grant"][0]["to"][0] = format!("unix:uid={own}").into();
        })
        .start()
        .await;
    let url = appliance.jwks_url(ISSUER);
    assert!(url.starts_with("http://127.0.0.1:"), "{url}");
    // There is no custodian over a unix socket, so there is nothing to publish yet.
    let answer = appliance.https().get(url).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
}
