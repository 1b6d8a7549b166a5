//! TLS to callers: what is agreed on, who is let in, and certificates that change under a running gateway.

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Version};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair, date_time_ymd};
use reputation_gateway::config::Config;
use reputation_gateway::server;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ProtocolVersion, RootCertStore};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::harness::process::{said, text};
use crate::harness::{BUDGET, STORED, Wire, World, exchange};

/// An authority, and files of what it signed.
struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    directory: TempDir,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("a certificate");
        let authority = Self { issuer, directory: tempfile::tempdir().expect("a temporary directory") };
        authority.renew();
        std::fs::write(authority.path("ca.crt"), authority.issuer.pem()).expect("writable");
        authority
    }

    fn sign(&self, usage: ExtendedKeyUsagePurpose) -> (rcgen::Certificate, KeyPair) {
        self.sign_until(4096, usage)
    }

    /// The same, valid until the first moment of a year.
    fn sign_until(&self, year: i32, usage: ExtendedKeyUsagePurpose) -> (rcgen::Certificate, KeyPair) {
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).expect("a name");
        params.not_after = date_time_ymd(year, 1, 1);
        params.extended_key_usages = vec![usage];
        let key = KeyPair::generate().expect("a key");
        (params.signed_by(&key, &self.issuer).expect("a certificate"), key)
    }

    /// Puts a new certificate and key in the place of the old ones; returns the certificate.
    fn renew(&self) -> CertificateDer<'static> {
        self.renew_until(4096)
    }

    fn renew_until(&self, year: i32) -> CertificateDer<'static> {
        let (certificate, key) = self.sign_until(year, ExtendedKeyUsagePurpose::ServerAuth);
        std::fs::write(self.path("tls.key"), key.serialize_pem()).expect("writable");
        std::fs::write(self.path("tls.crt"), certificate.pem()).expect("writable");
        certificate.der().clone()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn files(&self) -> server::Tls {
        server::Tls { certificate: self.path("tls.crt"), private_key: self.path("tls.key"), client_ca: None }
    }

    /// A gateway with these files.
    async fn world(&self, change: impl FnOnce(&mut Config)) -> World {
        let with_tls = |config: &mut Config| {
            config.server.tls = Some(self.files());
            change(config);
        };
        World::with(BUDGET, with_tls).await
    }

    /// A client that trusts this authority and offers these protocols.
    fn client(&self, alpn: &[&[u8]], version: &'static rustls::SupportedProtocolVersion) -> ClientConfig {
        self.client_as(alpn, version, None)
    }

    fn client_as(
        &self,
        alpn: &[&[u8]],
        version: &'static rustls::SupportedProtocolVersion,
        identity: Option<(rcgen::Certificate, KeyPair)>,
    ) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(self.issuer.der().clone()).expect("a root");
        let builder = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()));
        let builder = builder.with_protocol_versions(&[version]).expect("a version").with_root_certificates(roots);
        let mut config = match identity {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => {
                let key = PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
                builder.with_client_auth_cert(vec![certificate.der().clone()], key).expect("a pair")
            }
        };
        config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
        config
    }
}

async fn connect(world: &World, config: ClientConfig) -> std::io::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(world.gateway).await?;
    TlsConnector::from(Arc::new(config)).connect(ServerName::try_from("localhost").expect("a name"), stream).await
}

/// The status and version of a read's answer, over whatever was agreed on.
async fn read(stream: TlsStream<TcpStream>) -> Option<(u16, Version)> {
    let request = Request::builder().uri(format!("https://localhost/v2/reputation/numbers/{STORED}")).header("host", "localhost");
    let request = request.body(Full::new(Bytes::new())).expect("a request");
    let is_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    let response = if is_http2 {
        let (mut sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.ok()?;
        tokio::spawn(connection);
        sender.send_request(request).await.ok()?
    } else {
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.ok()?;
        tokio::spawn(connection);
        sender.send_request(request).await.ok()?
    };
    let answer = (response.status().as_u16(), response.version());
    response.into_body().collect().await.ok()?;
    Some(answer)
}

/// The certificate that a handshake shows now.
async fn shown(authority: &Authority, world: &World) -> CertificateDer<'static> {
    let stream = connect(world, authority.client(&[], &rustls::version::TLS13)).await.expect("a handshake");
    let chain = stream.get_ref().1.peer_certificates().expect("a certificate");
    chain[0].clone().into_owned()
}

const BOTH: [&[u8]; 2] = [b"h2", b"http/1.1"];

#[tokio::test]
async fn alpn_says_which_http_is_spoken() {
    let authority = Authority::new();
    let world = authority.world(|_| {}).await;
    for (version, number) in [(&rustls::version::TLS12, ProtocolVersion::TLSv1_2), (&rustls::version::TLS13, ProtocolVersion::TLSv1_3)] {
        for (alpn, spoken) in
            [(&BOTH[..], Version::HTTP_2), (&BOTH[..1], Version::HTTP_2), (&BOTH[1..], Version::HTTP_11), (&[], Version::HTTP_11)]
        {
            let stream = connect(&world, authority.client(alpn, version)).await.expect("a handshake");
            assert_eq!(stream.get_ref().1.protocol_version(), Some(number));
            assert_eq!(read(stream).await, Some((200, spoken)));
        }
    }
    let unknown = connect(&world, authority.client(&[b"http/0.9"], &rustls::version::TLS13)).await;
    assert!(unknown.is_err(), "nothing in common is no handshake");
}

#[tokio::test]
async fn what_is_no_handshake_is_not_answered() {
    let authority = Authority::new();
    let world = authority.world(|_| {}).await;
    for bytes in ["GET /v2/reputation/numbers/+16035551234 HTTP/1.1\r\nhost: gateway\r\n\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"] {
        let answer = exchange(world.gateway, bytes.as_bytes()).await;
        assert!(!answer.contains("HTTP"), "{answer}");
    }
    assert_eq!(world.sent(), 0);
    // Operators' clients speak without TLS.
    assert_eq!(world.admin("/readyz").await.status, 200);
}

#[tokio::test]
async fn a_handshake_has_as_long_as_a_head_and_is_a_connection() {
    let authority = Authority::new();
    let times = |config: &mut Config| {
        config.server.header_timeout = "50ms".parse().expect("a time");
        config.server.max_connections = 1;
    };
    let world = authority.world(times).await;
    let (first, second) = (Wire::to(world.gateway).await, Wire::to(world.gateway).await);
    first.ended().await;
    second.ended().await;
    let stream = connect(&world, authority.client(&BOTH, &rustls::version::TLS13)).await.expect("a handshake");
    assert_eq!(read(stream).await, Some((200, Version::HTTP_2)));
}

#[tokio::test]
async fn a_handshake_under_way_does_not_hold_up_the_stop() {
    let authority = Authority::new();
    let mut world = authority.world(|config| config.server.drain_timeout = "1h".parse().expect("a time")).await;
    let silent = Wire::to(world.gateway).await;
    let idle = connect(&world, authority.client(&BOTH, &rustls::version::TLS13)).await.expect("a handshake");
    world.stop().await;
    silent.ended().await;
    drop(idle);
}

#[tokio::test]
async fn with_a_client_ca_only_its_clients_are_let_in() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let path = authority.path("ca.crt");
    let with_ca = |config: &mut Config| config.server.tls.as_mut().expect("TLS").client_ca = Some(path);
    let world = authority.world(with_ca).await;
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let identities = [
            (None, None),
            (Some(stranger.sign(ExtendedKeyUsagePurpose::ClientAuth)), None),
            (Some(authority.sign(ExtendedKeyUsagePurpose::ServerAuth)), None),
            (Some(authority.sign(ExtendedKeyUsagePurpose::ClientAuth)), Some((200, Version::HTTP_2))),
        ];
        for (identity, answered) in identities {
            // In TLS 1.3 a client learns only with its first read that it was refused.
            let answer = match connect(&world, authority.client_as(&BOTH, version, identity)).await {
                Ok(stream) => read(stream).await,
                Err(_) => None,
            };
            assert_eq!(answer, answered);
        }
    }
}

#[tokio::test]
async fn changed_certificates_come_into_force_and_connections_go_on() {
    let authority = Authority::new();
    let world = authority.world(|_| {}).await;
    let before = shown(&authority, &world).await;
    let open = connect(&world, authority.client(&BOTH, &rustls::version::TLS13)).await.expect("a handshake");
    let renewed = authority.renew();
    while shown(&authority, &world).await == before {
        tokio::task::yield_now().await;
    }
    assert_eq!(shown(&authority, &world).await, renewed);
    assert_eq!(read(open).await, Some((200, Version::HTTP_2)));
}

#[tokio::test]
async fn the_metrics_tell_when_the_certificate_in_force_is_over() {
    const EXPIRY: &str = "reputation_gateway_tls_certificate_expiry_timestamp_seconds";
    assert_eq!(World::new().await.metric(EXPIRY).await, "0", "no TLS");
    let authority = Authority::new();
    authority.renew_until(2040);
    let world = authority.world(|_| {}).await;
    assert_eq!(world.metric(EXPIRY).await, "2208988800");
    let renewed = authority.renew_until(2041);
    while shown(&authority, &world).await != renewed {
        tokio::task::yield_now().await;
    }
    assert_eq!(world.metric(EXPIRY).await, "2240611200");
}

#[tokio::test]
async fn certificates_that_cannot_be_used_leave_the_old_ones_in_force() {
    let authority = Authority::new();
    let certificates = Arc::new(server::Certificates::load(&authority.files()).expect("certificates"));
    let world = authority.world(|_| {}).await;
    let before = shown(&authority, &world).await;
    // Its length differs too: two changes within one tick of the file system's clock are told apart by it.
    let strange = format!("another's\n{}", KeyPair::generate().expect("a key").serialize_pem());
    for (name, contents) in [("tls.crt", ""), ("tls.crt", "no PEM"), ("tls.key", ""), ("tls.key", &strange)] {
        let good = std::fs::read(authority.path(name)).expect("readable");
        std::fs::write(authority.path(name), contents).expect("writable");
        assert!(server::Certificates::load(&authority.files()).is_err());
        assert!(!certificates.refresh(), "{name} {contents}");
        assert!(!certificates.refresh(), "nothing changed since");
        std::fs::write(authority.path(name), good).expect("writable");
        assert!(certificates.refresh(), "the good files again");
    }
    std::fs::remove_file(authority.path("tls.key")).expect("it is there");
    assert!(!certificates.refresh());
    assert_eq!(shown(&authority, &world).await, before);
}

#[test]
fn files_that_cannot_be_used_are_told_by_setting_and_path() {
    let (authority, other) = (Authority::new(), Authority::new());
    std::fs::write(authority.path("empty"), "").expect("writable");
    std::fs::write(authority.path("torn"), "-----BEGIN CERTIFICATE-----\nnot base64!\n").expect("writable");
    let config = authority.path("gateway.toml");
    let good = ["tls.crt", "tls.key", "ca.crt"].map(|name| authority.path(name));
    let check = |files: &[PathBuf; 3]| {
        let [certificate, key, ca] = files.each_ref().map(|path| text(path));
        let tls = format!("tls = {{ certificate = \"{certificate}\", private_key = \"{key}\", client_ca = \"{ca}\" }}");
        let budget = "[[budget]]\nname = \"all\"\nlimit = \"1.00\"\nwindow = \"day\"\n";
        std::fs::write(&config, format!("[server]\n{tls}\n[auth]\nmode = \"forward\"\n{budget}")).expect("writable");
        said(&["check-config", "--config", text(&config)])
    };
    assert_eq!(check(&good), (Some(0), "the configuration is valid\n".to_owned()));
    for (place, setting, name, why) in [
        (0, "certificate", "absent", "cannot be read"),
        (0, "certificate", "empty", "has no certificate in PEM"),
        (0, "certificate", "torn", "is not valid PEM"),
        (0, "certificate", "tls.key", "has no certificate in PEM"),
        (1, "private_key", "absent", "cannot be read"),
        (1, "private_key", "tls.crt", "has no private key in PEM"),
        (2, "client_ca", "absent", "cannot be read"),
        (2, "client_ca", "empty", "has no certificate in PEM"),
    ] {
        let mut files = good.clone();
        files[place] = authority.path(name);
        let (code, said) = check(&files);
        let expected = format!("server.tls.{setting}: {}: {why}", files[place].display());
        assert!(code == Some(78) && said.contains(&expected), "{expected:?} is not in {said:?}");
    }
    let mut files = good;
    files[1] = other.path("tls.key");
    let (code, said) = check(&files);
    assert!(code == Some(78) && said.contains("server.tls.private_key") && said.contains("is not the key of the certificate"), "{said}");
}
