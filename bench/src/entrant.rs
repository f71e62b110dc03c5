//! Those who take part, set up as the arguments ask for.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use cimd_cache::{Builder, Cache};

use crate::args::{Arguments, Baseline};
use crate::contender::Redis;
use crate::dataset::Dataset;
use crate::environment::Environment;
use crate::footprint;
use crate::load::{self, Measured, Workload};
use crate::native::{Batched, Native};
use crate::service::{Over, Service};

/// How many connections native code has: in a pool, for gets and puts that share them, and for batches of
/// gets.
const POOL: usize = 16;
const PIPELINED: (usize, usize) = (4, 8);
const BATCHED: usize = 3;

/// Somebody who takes part.
pub(super) enum Entrant {
    Cache(&'static str, Cache),
    Native(&'static str, Native),
    Batched(Batched),
    Redis(Redis),
    Service(&'static str, Service),
}

impl Entrant {
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Cache(name, _) | Self::Native(name, _) | Self::Service(name, _) => name,
            Self::Batched(_) => "native, batched",
            Self::Redis(_) => "Redis",
        }
    }

    pub(super) async fn run(
        &self,
        on: (Option<&Environment>, &Arc<Dataset>),
        workload: Workload,
        callers: usize,
        time: Duration,
    ) -> Result<Measured> {
        match self {
            Self::Cache(_, cache) => load::run(cache, on, workload, callers, time).await,
            Self::Native(_, native) => load::run(native, on, workload, callers, time).await,
            Self::Batched(batched) => load::run(batched, on, workload, callers, time).await,
            Self::Redis(redis) => load::run(redis, on, workload, callers, time).await,
            Self::Service(_, service) => load::run(service, on, workload, callers, time).await,
        }
    }

    pub(super) async fn clear(&self, dataset: &Dataset) -> Result<()> {
        match self {
            Self::Redis(redis) => redis.clear(dataset).await,
            Self::Cache(..) | Self::Native(..) | Self::Batched(_) | Self::Service(..) => Ok(()),
        }
    }
}

/// Sets everybody up, the cache first, and says how much memory each took with the most callers.
pub(super) async fn enter(
    environment: &Environment,
    arguments: &Arguments,
    dataset: &Arc<Dataset>,
) -> Result<Vec<(Entrant, Option<f64>)>> {
    let most = arguments.callers.iter().copied().max().unwrap_or(1).into();
    let native = || Native::pipelined(&environment.parsed, &environment.schema, PIPELINED.0, PIPELINED.1);
    // The load itself takes memory the first time.
    let mut entrants = vec![];
    Entrant::Native("", native().await?)
        .run((Some(environment), dataset), Workload::Get, most, arguments.seconds)
        .await?;
    let mut before = footprint::resident();
    let mut add = async |entrant: Entrant| {
        entrant.run((Some(environment), dataset), Workload::Get, most, arguments.seconds).await?;
        let now = footprint::resident();
        entrants.push((entrant, now.zip(before).map(|(now, before)| now - before)));
        before = now;
        Ok::<_, anyhow::Error>(())
    };
    add(Entrant::Cache("cache", cache(environment, arguments).build()?)).await?;
    for baseline in &arguments.against {
        add(match baseline {
            Baseline::Pipelined => Entrant::Native("native, pipelined", native().await?),
            Baseline::Pool => Entrant::Native(
                "native, pool of 16",
                Native::pool(&environment.parsed, &environment.schema, POOL).await?,
            ),
            Baseline::Batched => {
                Entrant::Batched(Batched::new(&environment.parsed, &environment.schema, BATCHED, POOL).await?)
            }
            Baseline::Fresh => Entrant::Cache(
                "cache, an instance for each call",
                cache(environment, arguments).max_instance_reuse_count(1).build()?,
            ),
            Baseline::Interpreted => {
                Entrant::Cache("cache, interpreted", cache(environment, arguments).interpret(true).build()?)
            }
            Baseline::Near => Entrant::Cache(
                "cache, near cache",
                cache(environment, arguments).near_ttl(arguments.near_ttl).build()?,
            ),
            Baseline::Socket => Entrant::Service(
                "service, Unix socket",
                Service::start(cache(environment, arguments).build()?, Over::Socket).await?,
            ),
            Baseline::Tcp => Entrant::Service(
                "service, TCP",
                Service::start(cache(environment, arguments).build()?, Over::Tcp).await?,
            ),
            Baseline::NearSocket => {
                let cache = cache(environment, arguments).near_ttl(arguments.near_ttl).build()?;
                Entrant::Service(
                    "service, Unix socket, near cache",
                    Service::start(cache, Over::Socket).await?,
                )
            }
        })
        .await?;
    }
    if let Some(url) = &arguments.redis {
        let redis = Redis::connect(url, environment.schema.name()).await?;
        redis.fill(dataset).await?;
        add(Entrant::Redis(redis)).await?;
    }
    Ok(entrants)
}

pub(super) fn cache(environment: &Environment, arguments: &Arguments) -> Builder {
    let mut builder = environment.builder();
    if let Some(connections) = arguments.read_connections {
        builder = builder.read_connections(connections);
    }
    if let Some(connections) = arguments.write_connections {
        builder = builder.write_connections(connections);
    }
    if let Some(gets) = arguments.max_batch {
        builder = builder.max_batch(gets);
    }
    builder
}
