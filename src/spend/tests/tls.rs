//! Servers that are reached with TLS, under an authority of their own.

use super::servers::{Sentinel, free_ports, spend_on};
use super::*;

/// A certificate of this machine's own in the folder, and its key: their paths.
fn certified(folder: &Path) -> (String, String) {
    let [cert, key] = ["cert.pem", "key.pem"].map(|name| folder.join(name).display().to_string());
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned(), "127.0.0.1".to_owned()]).expect("a certificate");
    std::fs::write(&cert, made.cert.pem()).expect("writable");
    std::fs::write(&key, made.signing_key.serialize_pem()).expect("writable");
    (cert, key)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_is_reached_with_tls_under_an_authority_of_its_own() {
    let mut bench = Bench::new();
    let folder = bench.dir.path().to_owned();
    let (cert, key) = certified(&folder);
    let [port] = free_ports();
    let settings = ["--tls-port", &port.to_string(), "--tls-cert-file", &cert, "--tls-key-file", &key, "--tls-ca-cert-file", &cert];
    bench.redis = Some(RedisServer::start(&folder, &[&settings[..], &["--tls-auth-clients", "no"]].concat()));
    let url = format!("rediss://localhost:{port}/3");
    let trusting = crate::shared::Config { ca_certificate: Some(cert.into()), ..shared_config(&url) };
    let stranger = Redis::new(&shared_config(&url)).expect("a URL").expect("one is named").connect().await;
    assert!(stranger.is_err(), "a certificate that nobody vouches for");
    spend_on(&bench, trusting).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_master_that_a_sentinel_names_is_reached_with_tls_too() {
    let mut bench = Bench::new();
    let folder = bench.dir.path().to_owned();
    let (cert, key) = certified(&folder);
    let [port, sentinel] = free_ports();
    let settings = ["--tls-port", &port.to_string(), "--tls-cert-file", &cert, "--tls-key-file", &key, "--tls-ca-cert-file", &cert];
    bench.redis = Some(RedisServer::start(&folder, &[&settings[..], &["--tls-auth-clients", "no"]].concat()));
    let inside = folder.join("sentinel");
    std::fs::create_dir(&inside).expect("a folder");
    let tls = format!("tls-port {sentinel}\ntls-cert-file {cert}\ntls-key-file {key}\ntls-ca-cert-file {cert}\ntls-auth-clients no");
    let settings = format!("port 0\n{tls}\ntls-replication yes\nsentinel monitor money 127.0.0.1 {port} 1\n");
    std::fs::write(inside.join("sentinel.conf"), settings).expect("writable");
    let _sentinel = Sentinel::start(&inside.join("sentinel.conf"));
    let sentinels = vec![format!("rediss://localhost:{sentinel}").parse().expect("a URL")];
    let shared = shared_config("rediss://elsewhere.invalid:1/2");
    let named = crate::shared::Config { sentinels, sentinel_service: "money".to_owned(), ..shared };
    let stranger = Redis::new(&named).expect("a URL").expect("one is named").connect().await;
    assert!(stranger.is_err(), "a certificate that nobody vouches for");
    spend_on(&bench, crate::shared::Config { ca_certificate: Some(cert.into()), ..named }).await;
}
