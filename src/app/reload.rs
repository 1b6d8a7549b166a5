//! Reload: the configuration is read again when a signal asks for it, or its files have changed.
//!
//! Files are looked at each second, which finds whatever way they change in, on every file system: written in place, renamed over, or a link turned
//! as Kubernetes does it. One that is being written is left alone until it has stood still from one look to the next.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::task::spawn_blocking;

use crate::admin::Admin;
use crate::config::{Config, LoadError};
use crate::files::Stamps;
use crate::gateway::{ApplyError, Live};
use crate::secret::{NoSecret, Secret};

/// From one look at the files to the next.
const EVERY: Duration = Duration::from_secs(1);

/// Where a configuration is read from.
#[derive(Clone)]
pub struct Source {
    /// The file; none, where there is nothing to watch.
    pub file: Option<PathBuf>,
    /// Reads it, with all that stands over it.
    pub load: Arc<dyn Fn() -> Result<Config, LoadError> + Send + Sync>,
}

/// Reads the configuration again; clones are the same one.
#[derive(Clone)]
pub struct Reload {
    source: Source,
    live: Live,
    admin: Admin,
    /// What the files were when they were read last.
    read: Arc<Mutex<Stamps>>,
    /// Taken from reading to putting in force: of two at once, the one that read last has the last word.
    reading: Arc<tokio::sync::Mutex<()>>,
}

/// Why what was read is not in force.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error("{0}")]
    Load(#[from] LoadError),
    #[error("admin.token: {0}")]
    Token(#[from] NoSecret),
    #[error("{0}")]
    Apply(#[from] ApplyError),
    #[error("it could not be read: {0}")]
    Reader(#[from] tokio::task::JoinError),
}

impl Reload {
    pub(super) fn new(source: Source, live: Live, admin: Admin) -> Self {
        live.read_from(source.file.clone());
        let read = source.stamps().and(secrets(&live.in_force().config));
        Self { source, live, admin, read: Arc::new(Mutex::new(read)), reading: Arc::default() }
    }

    /// Reads the configuration and puts it in force; if that cannot be, the old one stays. Whether the new one is in force is also logged, counted and
    /// shown to operators.
    pub async fn now(&self) -> Result<(), String> {
        let _one_after_another = self.reading.lock().await;
        match self.reload().await {
            Ok(()) => {
                let in_force = self.live.in_force();
                in_force.config.warnings().iter().for_each(|warning| tracing::warn!("{warning}"));
                if !in_force.restart_needed.is_empty() {
                    let keys = in_force.restart_needed.join(", ");
                    tracing::warn!(keys, "these settings were changed and need a restart; all others are in force");
                }
                tracing::info!("the configuration was read again and is in force");
                Ok(())
            }
            Err(refusal) => {
                let why = refusal.to_string();
                tracing::error!(why, "the configuration cannot come into force, and the old one stays");
                self.live.refused(why.clone());
                Err(why)
            }
        }
    }

    async fn reload(&self) -> Result<(), Refusal> {
        let source = self.source.clone();
        // Taken before the file is read: a change in between is seen by the next look.
        let (stamps, loaded) = spawn_blocking(move || (source.stamps(), (source.load)())).await?;
        let stamps = stamps.and(secrets(&self.live.in_force().config));
        let stamps = loaded.iter().map(secrets).fold(stamps, Stamps::and);
        *self.read.lock().unwrap_or_else(PoisonError::into_inner) = stamps;
        let config = loaded?;
        let token = config.admin.token.as_ref().map(Secret::read).transpose()?;
        self.live.apply(config).await?;
        self.admin.ask_for(token.as_ref());
        Ok(())
    }

    /// Reads the configuration again whenever its file, or one that a secret is read from, has changed; until `stop`.
    pub(super) async fn watch(&self, stop: impl Future<Output = ()>) {
        let (mut stop, clock) = (pin!(stop), self.live.gateway().clock().clone());
        let mut last = Stamps::default();
        loop {
            tokio::select! {
                () = clock.reaches(clock.elapsed() + EVERY) => {}
                () = &mut stop => return,
            }
            let read = self.read.lock().unwrap_or_else(PoisonError::into_inner).clone();
            let seen = spawn_blocking({
                let read = read.clone();
                move || read.now()
            });
            let Ok(seen) = seen.await else { continue };
            if seen != read && seen == last {
                // What went wrong is told there.
                let _in_force = self.now().await;
            }
            last = seen;
        }
    }
}

impl Source {
    fn stamps(&self) -> Stamps {
        Stamps::of(self.file.as_deref())
    }
}

fn secrets(config: &Config) -> Stamps {
    Stamps::of(config.secret_files().iter().map(PathBuf::as_path).collect::<Vec<&Path>>())
}
