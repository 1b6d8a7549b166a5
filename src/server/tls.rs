//! TLS for callers: certificates from PEM files, read again when the files change.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arc_swap::ArcSwap;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::{Error as PemError, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{RootCertStore, ServerConfig};
use tokio::time::Instant;
use x509_cert::Certificate;
use x509_cert::der::Decode;

use super::config::Tls;
use crate::files::Stamps;

/// Handshakes look at the files no more often than this.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// RFC 7301: what is spoken inside, in the order of preference.
pub(super) const HTTP_2: &[u8] = b"h2";
const HTTP_1_1: &[u8] = b"http/1.1";

/// Why certificates cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("server.tls.{key}: {path}: {why}", path = .path.display())]
pub struct TlsError {
    /// The setting in `server.tls`.
    pub key: &'static str,
    /// The file it names.
    pub path: PathBuf,
    /// What is wrong with it. Nothing of a key is in it.
    pub why: String,
}

/// The certificates in force, shared by all listeners.
#[derive(Debug)]
pub struct Certificates {
    files: Tls,
    in_force: ArcSwap<InForce>,
    /// What the files were when they were read last.
    read: Mutex<Stamps>,
    /// Taken by the handshake that looks at them; when that was last.
    looked: tokio::sync::Mutex<Instant>,
}

#[derive(Debug)]
struct InForce {
    config: Arc<ServerConfig>,
    /// When the first certificate of the chain is over, as Unix time; none, where no date can be read in them.
    expires: Option<Duration>,
}

impl Certificates {
    /// Reads the files.
    pub fn load(files: &Tls) -> Result<Self, TlsError> {
        let stamps = stamps(files);
        let in_force = ArcSwap::from_pointee(read(files)?);
        Ok(Self { files: files.clone(), in_force, read: Mutex::new(stamps), looked: tokio::sync::Mutex::new(Instant::now()) })
    }

    /// Reads the files again if they changed. If they cannot be used, what was in force stays, and that is logged once. Whether new ones
    /// came into force.
    pub fn refresh(&self) -> bool {
        let mut before = self.read.lock().expect("nothing panics while it is held");
        // Taken before they are read: a change in between is seen by the next look.
        let now = stamps(&self.files);
        if now == *before {
            return false;
        }
        *before = now;
        match read(&self.files) {
            Ok(read) => {
                self.in_force.store(Arc::new(read));
                tracing::info!(certificate = %self.files.certificate.display(), "changed TLS certificates are in force");
                true
            }
            Err(error) => {
                tracing::error!(%error, "changed TLS certificates cannot be used, and the old ones stay in force");
                false
            }
        }
    }

    /// When the first of the certificates that are shown to callers is over, as Unix time; none, where they do not tell.
    pub fn expires(&self) -> Option<Duration> {
        self.in_force.load().expires
    }

    /// What a handshake goes by that begins now. It waits for the disk where it is time to look, and not for another that does.
    pub(super) async fn current(self: &Arc<Self>) -> Arc<ServerConfig> {
        if let Ok(mut looked) = self.looked.try_lock()
            && looked.elapsed() >= LOOK_EVERY
        {
            *looked = Instant::now();
            let certificates = Arc::clone(self);
            let refreshed = tokio::task::spawn_blocking(move || certificates.refresh()).await;
            if let Err(error) = refreshed {
                tracing::error!(%error, "TLS certificates could not be looked at");
            }
        }
        Arc::clone(&self.in_force.load().config)
    }
}

fn stamps(files: &Tls) -> Stamps {
    Stamps::of([Some(&files.certificate), Some(&files.private_key), files.client_ca.as_ref()].into_iter().flatten().map(PathBuf::as_path))
}

fn read(files: &Tls) -> Result<InForce, TlsError> {
    let provider = Arc::new(ring::default_provider());
    let bad_certificate = wrong("certificate", &files.certificate);
    let chain = certificates(&files.certificate).map_err(bad_certificate.clone())?;
    let expires = chain.iter().filter_map(over).min();
    let bad_key = wrong("private_key", &files.private_key);
    let key = PrivateKeyDer::from_pem_file(&files.private_key).map_err(|error| bad_key(unreadable(&error, "private key")))?;
    let certified = CertifiedKey::from_der(chain, key, &provider).map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => bad_key(format!("is not the key of the certificate in {}", files.certificate.display())),
        rustls::Error::InvalidCertificate(error) => bad_certificate(format!("its first certificate cannot be used: {error:?}")),
        _ => bad_key("is no key that can be used here: RSA, ECDSA (P-256, P-384) or Ed25519".to_owned()),
    })?;
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions();
    let builder = builder.expect("ring has what TLS 1.2 and 1.3 need");
    let builder = match &files.client_ca {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let roots = certificates(path).and_then(|roots| verifier(roots, provider)).map_err(wrong("client_ca", path))?;
            builder.with_client_cert_verifier(roots)
        }
    };
    let mut config = builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(certified)));
    config.alpn_protocols = vec![HTTP_2.to_vec(), HTTP_1_1.to_vec()];
    Ok(InForce { config: Arc::new(config), expires })
}

/// When a certificate is over, as Unix time.
fn over(certificate: &CertificateDer<'_>) -> Option<Duration> {
    Certificate::from_der(certificate).ok().map(|certificate| certificate.tbs_certificate().validity().not_after.to_unix_duration())
}

fn wrong<'p>(key: &'static str, path: &'p Path) -> impl Fn(String) -> TlsError + Clone + use<'p> {
    move |why| TlsError { key, path: path.to_owned(), why }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    match read {
        Ok(chain) if chain.is_empty() => Err(unreadable(&PemError::NoItemsFound, "certificate")),
        Ok(chain) => Ok(chain),
        Err(error) => Err(unreadable(&error, "certificate")),
    }
}

fn verifier(
    roots: Vec<CertificateDer<'static>>,
    provider: Arc<CryptoProvider>,
) -> Result<Arc<dyn rustls::server::danger::ClientCertVerifier>, String> {
    let mut store = RootCertStore::empty();
    roots.into_iter().try_for_each(|root| store.add(root)).map_err(|error| format!("a certificate in it cannot be used: {error}"))?;
    WebPkiClientVerifier::builder_with_provider(Arc::new(store), provider).build().map_err(|error| error.to_string())
}

/// The library's own words may show a line of the file.
fn unreadable(error: &PemError, wanted: &str) -> String {
    match error {
        PemError::Io(error) => format!("cannot be read: {error}"),
        PemError::NoItemsFound => format!("has no {wanted} in PEM (-----BEGIN …)"),
        _ => "is not valid PEM".to_owned(),
    }
}
