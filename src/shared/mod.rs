//! `[shared]`: the Redis or Valkey that several gateways share, and how it is reached.
//!
//! [`Redis`] is where it is, [`Link`] one connection to it, of a single server, of what Sentinels say is the master, or of a Cluster. Every wait
//! has a bound. A link does not connect again by itself: whoever uses it throws it away when it fails, and says when to try anew. A [`Line`] does that for
//! what is asked in passing, and [`follow()`] for a stream.
//!
//! All keys are `{prefix}:…`. The braces make the prefix the keys' hash tag, so that in a Cluster one script may touch all of them.

mod config;
mod durability;
mod follow;
mod line;
#[cfg(test)]
#[path = "../../tests/it/harness/redis.rs"]
pub(crate) mod server;
#[cfg(test)]
mod tests;

use std::time::Duration;

use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::cluster::{ClusterClient, ClusterClientBuilder};
use redis::cluster_async::ClusterConnection;
use redis::sentinel::{SentinelClient, SentinelClientBuilder, SentinelServerType};
use redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionAddr, ConnectionInfo, IntoConnectionInfo, Pipeline, RedisConnectionInfo, RedisError,
    RedisFuture, TlsCertificates, TlsMode, Value,
};

pub use self::config::{Config, SentinelUrl};
pub use self::durability::{Shortcoming, shortcomings};
pub use self::follow::{Entry, News, NoPosition, Position, follow};
pub use self::line::{Line, NoAnswer};
use crate::secret::NoSecret;

/// Where the Redis is.
#[derive(Clone, Debug)]
pub struct Redis {
    config: Config,
    server: ConnectionInfo,
    sentinels: Vec<ConnectionInfo>,
    certificates: Option<TlsCertificates>,
}

/// Why nothing is known of where it is.
#[derive(Debug, thiserror::Error)]
pub enum NoRedis {
    /// Its URL is not where the configuration says.
    #[error("shared.redis_url: {0}")]
    Secret(#[from] NoSecret),
    /// A URL cannot be used.
    #[error("{0}: {1}; write redis://user:password@host:6379/0, rediss:// for TLS, or unix:///path")]
    Url(&'static str, RedisError),
    /// The Sentinels are not asked alike.
    #[error("shared.sentinels: all are asked by one user with one password")]
    Sentinels,
    /// The certificate cannot be read.
    #[error("shared.ca_certificate: {0}")]
    Certificate(std::io::Error),
}

/// One connection.
#[derive(Clone)]
pub enum Link {
    /// To one server.
    Server(MultiplexedConnection),
    /// To a Cluster.
    Cluster(ClusterConnection),
}

impl Redis {
    /// What the configuration names; nothing, if it names none.
    pub fn new(config: &Config) -> Result<Option<Self>, NoRedis> {
        let Some(url) = &config.redis_url else { return Ok(None) };
        let server = url.read()?.expose().into_connection_info().map_err(|error| NoRedis::Url("shared.redis_url", error))?;
        let sentinels = config.sentinels.iter().map(|sentinel| sentinel.expose().into_connection_info());
        let sentinels: Vec<_> = sentinels.collect::<Result<_, _>>().map_err(|error| NoRedis::Url("shared.sentinels", error))?;
        let user = |sentinel: &ConnectionInfo| {
            (sentinel.redis_settings().username().map(str::to_owned), sentinel.redis_settings().password().map(str::to_owned))
        };
        if sentinels.windows(2).any(|pair| user(&pair[0]) != user(&pair[1])) {
            return Err(NoRedis::Sentinels);
        }
        let root = config.ca_certificate.as_ref().map(std::fs::read).transpose().map_err(NoRedis::Certificate)?;
        let certificates = root.map(|root| TlsCertificates { client_tls: None, root_cert: Some(root) });
        Ok(Some(Self { config: config.clone(), server, sentinels, certificates }))
    }

    /// Its settings.
    pub const fn config(&self) -> &Config {
        &self.config
    }

    /// The key of this name.
    pub fn key(&self, name: &str) -> String {
        format!("{{{}}}:{name}", self.config.prefix)
    }

    /// Connects, within the time that the configuration leaves for it.
    pub async fn connect(&self) -> Result<Link, RedisError> {
        self.connect_to_wait(self.config.timeout.0).await
    }

    /// The same for questions whose answers may take so long.
    pub async fn connect_to_wait(&self, longest: Duration) -> Result<Link, RedisError> {
        let limit = self.config.connect_timeout.0;
        tokio::time::timeout(limit, self.connect_at_leisure(longest)).await.unwrap_or_else(|_| Err(timed_out("connecting", limit)))
    }

    async fn connect_at_leisure(&self, longest: Duration) -> Result<Link, RedisError> {
        // Whoever asks sets a bound for the whole of what it asks.
        let asked = AsyncConnectionConfig::new().set_connection_timeout(None).set_response_timeout(None);
        if self.config.cluster {
            return self.cluster(longest)?.get_async_connection().await.map(Link::Cluster);
        }
        let connection = if self.config.sentinels.is_empty() {
            self.client()?.get_multiplexed_async_connection_with_config(&asked).await
        } else {
            self.sentinels()?.get_async_connection_with_config(&asked).await
        };
        connection.map(Link::Server)
    }

    fn client(&self) -> Result<Client, RedisError> {
        match &self.certificates {
            Some(certificates) => Client::build_with_tls(self.server.clone(), certificates.clone()),
            None => Client::open(self.server.clone()),
        }
    }

    fn cluster(&self, longest: Duration) -> Result<ClusterClient, RedisError> {
        let builder = ClusterClientBuilder::new([self.server.clone()]).retries(0).connection_timeout(self.config.connect_timeout.0);
        let builder = builder.response_timeout(longest);
        match &self.certificates {
            Some(certificates) => builder.certs(certificates.clone()).build(),
            None => builder.build(),
        }
    }

    /// Sentinels are asked as their own URLs say, and the master that they name as `redis_url` says.
    fn sentinels(&self) -> Result<SentinelClient, RedisError> {
        let asked = self.sentinels.iter().map(|sentinel| match &self.certificates {
            // Where they have TLS it is under the same authority.
            Some(certificates) => Ok(Client::build_with_tls(sentinel.clone(), certificates.clone())?.get_connection_info().addr().clone()),
            None => Ok(sentinel.addr().clone()),
        });
        let asked = asked.collect::<Result<Vec<_>, RedisError>>()?;
        let builder = SentinelClientBuilder::new(asked, &self.config.sentinel_service, SentinelServerType::Master)?;
        let (master, sentinel) = (self.server.redis_settings(), self.sentinels.first().map(ConnectionInfo::redis_settings));
        let builder = builder.set_client_to_redis_db(master.db());
        let builder = with(builder, master.username(), SentinelClientBuilder::set_client_to_redis_username);
        let builder = with(builder, master.password(), SentinelClientBuilder::set_client_to_redis_password);
        let builder =
            with(builder, sentinel.and_then(RedisConnectionInfo::username), SentinelClientBuilder::set_client_to_sentinel_username);
        let builder =
            with(builder, sentinel.and_then(RedisConnectionInfo::password), SentinelClientBuilder::set_client_to_sentinel_password);
        if !matches!(self.server.addr(), ConnectionAddr::TcpTls { .. }) {
            return builder.build();
        }
        let builder = builder.set_client_to_redis_tls_mode(TlsMode::Secure);
        with(builder, self.certificates.clone(), SentinelClientBuilder::set_client_to_redis_certificates).build()
    }
}

/// Sets what there is.
fn with<T>(
    builder: SentinelClientBuilder,
    value: Option<T>,
    set: impl Fn(SentinelClientBuilder, T) -> SentinelClientBuilder,
) -> SentinelClientBuilder {
    match value {
        Some(value) => set(builder, value),
        None => builder,
    }
}

/// The error of a wait that had no end in time.
pub fn timed_out(what: &str, limit: Duration) -> RedisError {
    std::io::Error::new(std::io::ErrorKind::TimedOut, format!("{what} took longer than {} ms", limit.as_millis())).into()
}

impl ConnectionLike for Link {
    fn req_packed_command<'a>(&'a mut self, cmd: &'a Cmd) -> RedisFuture<'a, Value> {
        match self {
            Self::Server(connection) => connection.req_packed_command(cmd),
            Self::Cluster(connection) => connection.req_packed_command(cmd),
        }
    }

    fn req_packed_commands<'a>(&'a mut self, pipeline: &'a Pipeline, offset: usize, count: usize) -> RedisFuture<'a, Vec<Value>> {
        match self {
            Self::Server(connection) => connection.req_packed_commands(pipeline, offset, count),
            Self::Cluster(connection) => connection.req_packed_commands(pipeline, offset, count),
        }
    }

    fn get_db(&self) -> i64 {
        match self {
            Self::Server(connection) => connection.get_db(),
            Self::Cluster(connection) => connection.get_db(),
        }
    }
}
