//! The real binary: exit codes, precedence, streaming. The appliance's API is served in this
//! process, over a real unix socket.

#![allow(clippy::unwrap_used, reason = "a test ends where something unexpected happens")]

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Command, Output, Stdio},
};

use mintwarden_client::api::{
    DescribeIssuerRequest, Issuer, ItemError, SignBatchRequest, SignBatchResponse, SignRequest,
    SignResponse, SignResult,
    sign_result::Outcome,
    signing_service_server::{SigningService, SigningServiceServer},
};
use tempfile::TempDir;
use tokio::{net::UnixListener, runtime::Runtime};
use tokio_stream::wrappers::UnixListenerStream;
use tonic::{Request, Response, Status, transport::Server};

/// Signs with the claims' first byte; refuses what starts with `b`.
struct Signing;

#[tonic::async_trait]
impl SigningService for Signing {
    async fn sign(&self, _: Request<SignRequest>) -> Result<Response<SignResponse>, Status> {
        Err(Status::unimplemented("not used by the client"))
    }

    async fn sign_batch(
        &self,
        request: Request<SignBatchRequest>,
    ) -> Result<Response<SignBatchResponse>, Status> {
        let refused = ItemError {
            code: 3,
            reason: "CLAIM_REFUSED".into(),
            message: "exp is too late".into(),
            claim: "exp".into(),
            rule: "lifetime".into(),
            ..ItemError::default()
        };
        let outcome = |claims: &mintwarden_client::Bytes| match claims[0] {
            b'b' => Outcome::Error(refused.clone()),
            _ => Outcome::Signature(claims.slice(..1)),
        };
        let claims = request.into_inner().claims;
        let results = claims.iter().map(|claims| SignResult { outcome: Some(outcome(claims)) });
        Ok(Response::new(SignBatchResponse {
            kid: "kid".into(),
            protected_header: "header".into(),
            results: results.collect(),
        }))
    }

    async fn describe_issuer(
        &self,
        _: Request<DescribeIssuerRequest>,
    ) -> Result<Response<Issuer>, Status> {
        Err(Status::unimplemented("not used here"))
    }
}

struct Fixture {
    dir: TempDir,
    _server: Runtime,
}

impl Fixture {
    fn start() -> Self {
        let dir = TempDir::new().unwrap();
        let server = Runtime::new().unwrap();
        let path = dir.path().join("api.sock");
        let listener = server.block_on(async { UnixListener::bind(path).unwrap() });
        server.spawn(
            Server::builder().add_service(SigningServiceServer::new(Signing)).serve_with_incoming(
                {
                    let _context = server.enter();
                    UnixListenerStream::new(listener)
                },
            ),
        );
        Self { dir, _server: server }
    }

    fn endpoint(&self) -> String {
        format!("unix:{}", self.dir.path().join("api.sock").display())
    }

    fn sign(&self) -> Command {
        let mut command = ctl(self.dir.path());
        command.args(["sign", "--issuer", "payments-tts", "--endpoint", &self.endpoint()]);
        command
    }
}

/// The binary, with nothing from the environment but a home directory.
fn ctl(home: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mintwardenctl"));
    command.env_clear().env("HOME", home);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn with_input(mut command: Command, input: String) -> Output {
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // From a thread: neither side may wait for the other with full pipes.
    let writer = std::thread::spawn(move || stdin.write_all(input.as_bytes()));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    output
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[test]
fn signs_in_the_order_of_the_input() {
    let fixture = Fixture::start();
    let input: String = (0..20_000).map(|n| format!("{{\"n\":{n}}}\n")).collect();
    let output = with_input(fixture.sign(), input);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let tokens: Vec<_> = text(&output.stdout).lines().collect();
    assert_eq!(tokens.len(), 20_000);
    assert_eq!(tokens[0], "header.eyJuIjowfQ.ew");
    assert_eq!(tokens[19_999], "header.eyJuIjoxOTk5OX0.ew");
}

#[test]
fn lines_that_are_not_signed_are_named_on_standard_error() {
    let fixture = Fixture::start();
    let output = with_input(fixture.sign(), "{}\nbad\n\n{}\n".to_owned());
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(text(&output.stdout), "header.e30.ew\nheader.e30.ew\n");
    let errors: Vec<_> = text(&output.stderr).lines().collect();
    assert_eq!(
        errors[0],
        r#"{"line":2,"reason":"CLAIM_REFUSED","message":"exp is too late","claim":"exp","rule":"lifetime"}"#
    );
    assert!(errors[1].starts_with(r#"{"line":3,"reason":"LINE_EMPTY""#), "{}", errors[1]);
    assert_eq!(errors.len(), 2);
}

#[test]
fn answers_each_line_while_the_input_goes_on() {
    let fixture = Fixture::start();
    let mut child = fixture.sign().spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    for _ in 0..3 {
        stdin.write_all(b"{}\n").unwrap();
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        assert_eq!(line, "header.e30.ew\n");
    }
    drop(stdin);
    assert!(child.wait().unwrap().success());
}

#[test]
fn a_reader_that_has_enough_ends_it_quietly() {
    let fixture = Fixture::start();
    let mut child = fixture.sign().spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    drop(child.stdout.take());
    // The input goes on for ever, as far as the process can tell.
    let _ = stdin.write_all(b"{}\n");
    let output = child.wait_with_output().unwrap();
    assert_eq!(text(&output.stderr), "");
    assert!(output.status.success());
}

#[test]
fn option_before_environment_before_file() {
    let fixture = Fixture::start();
    let home = fixture.dir.path();
    let run = |mut command: Command| {
        command.arg("status");
        text(&command.output().unwrap().stderr).to_owned()
    };
    assert!(run(ctl(home)).contains("unix:/run/mintwarden/api.sock"), "the default");
    fs::create_dir_all(home.join(".config/mintwarden")).unwrap();
    fs::write(home.join(".config/mintwarden/ctl.toml"), "endpoint = 'unix:/from/file'").unwrap();
    assert!(run(ctl(home)).contains("unix:/from/file"));
    let mut command = ctl(home);
    command.env("MINTWARDEN_ENDPOINT", "unix:/from/environment");
    assert!(run(command).contains("unix:/from/environment"));
    let mut command = ctl(home);
    command
        .env("MINTWARDEN_ENDPOINT", "unix:/from/environment")
        .args(["--endpoint", "unix:/from/option"]);
    assert!(run(command).contains("unix:/from/option"));
}

#[test]
fn the_endpoint_that_answers_is_found_among_several() {
    let fixture = Fixture::start();
    let several = format!("unix:/nowhere/api.sock,{}", fixture.endpoint());
    let mut command = ctl(fixture.dir.path());
    command.env("MINTWARDEN_ENDPOINT", &several).args(["sign", "--issuer", "payments-tts"]);
    let output = with_input(command, "{}\n".repeat(100));
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(text(&output.stdout).lines().count(), 100);
}

#[test]
fn exit_codes_are_those_of_the_help() {
    let dir = TempDir::new().unwrap();
    let run = |arguments: &[&str]| {
        let output = ctl(dir.path()).args(arguments).output().unwrap();
        (output.status.code(), text(&output.stderr).to_owned())
    };
    assert_eq!(run(&["no-such-command"]).0, Some(2));
    assert_eq!(run(&["status", "--timeout", "0s"]).0, Some(2));
    assert_eq!(run(&["status", "--endpoint", "unix:/nowhere"]).0, Some(69));
    for (arguments, named) in [
        (&["status", "--endpoint", "https://hsm.example"][..], "certificate and key"),
        (&["status", "--endpoint", "hsm.example"], "https://HOST:PORT"),
        (&["status", "--cert", "a.crt"], "--key"),
        (&["status", "--config", "/nowhere/ctl.toml"], "/nowhere/ctl.toml"),
    ] {
        let (code, errors) = run(arguments);
        assert_eq!(code, Some(78), "{errors}");
        assert!(errors.contains(named), "{errors}");
    }
    let fixture = Fixture::start();
    // Unimplemented by this server: a refusal.
    assert_eq!(run(&["status", "--endpoint", &fixture.endpoint()]).0, Some(1));
}

#[test]
fn an_appliance_that_is_gone_ends_signing() {
    let dir = TempDir::new().unwrap();
    let mut command = ctl(dir.path());
    command.args(["sign", "--issuer", "a", "--endpoint", "unix:/nowhere", "--timeout", "2s"]);
    let output = with_input(command, "{}\n".to_owned());
    assert_eq!(output.status.code(), Some(69));
    assert!(text(&output.stderr).starts_with(r#"{"line":1,"reason":"TRANSPORT""#));
}
