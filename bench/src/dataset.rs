//! The rows that are read and written.

use anyhow::Result;
use cimd_cache::{Schema, internals};
use cimd_cache_documents::ALL as DOCUMENTS;
use indicatif::ProgressBar;
use tokio_postgres::Client;

/// How many rows one statement inserts.
const BATCH: u64 = 50_000;

/// How many rows there are, each with a published document, and how their URLs are made.
#[derive(Clone, Copy, Debug)]
pub(super) struct Dataset {
    /// Rows with a fresh document.
    pub(super) live: u64,
    /// Rows with one that expired within the last hours, spread among them.
    pub(super) expired: u64,
}

/// Every `$3`th row is an expired one. Fetch and expiry are spread over time, as they are in a table that has
/// grown.
const FILL: &str = "\
insert into cimd_cache.client_id_metadata (url, metadata, expires_at, inserted_at, fetched_at, after_purge)
select case when e.expired then 'https://expired-' || (i / $3::bigint)
            else 'https://client-' || (i - i / $3::bigint) end || '.example/oauth/client-metadata.json',
       ($4::text[])[1 + i % array_length($4::text[], 1)]::jsonb,
       case when e.expired then now() - interval '1 minute' - e.age else now() + interval '1 day' + e.age end,
       now() - interval '2 days' - e.age,
       now() - interval '1 hour' - e.age,
       p.purged_at
from generate_series($1::bigint, $2::bigint - 1) i,
     lateral (select i % $3::bigint = $3::bigint - 1 as expired, random() * interval '1 day' as age) e,
     cimd_cache.purge p";

impl Dataset {
    pub(super) fn url(&self, number: u64) -> String {
        format!("https://client-{number}.example/oauth/client-metadata.json")
    }

    /// Any client that is there, and any document.
    pub(super) fn any(&self) -> (String, &'static str) {
        (self.url(fastrand::u64(0..self.live)), DOCUMENTS[fastrand::usize(0..DOCUMENTS.len())].text)
    }

    /// Fills the empty table.
    pub(super) async fn fill(&self, client: &Client, schema: &Schema, progress: &ProgressBar) -> Result<()> {
        let rows = self.live + self.expired;
        let nth = rows.checked_div(self.expired).map_or(i64::MAX, |nth| nth.cast_signed());
        let documents = DOCUMENTS.map(|document| document.text);
        let fill = client.prepare(&internals::qualify(schema, FILL)).await?;
        progress.set_length(rows);
        let mut from = 0;
        while from < rows {
            let to = (from + BATCH).min(rows);
            client.execute(&fill, &[&from.cast_signed(), &to.cast_signed(), &nth, &&documents[..]]).await?;
            progress.set_position(to);
            from = to;
        }
        // What autovacuum would do in its own time: set the rows' hint bits, and count them for the planner.
        client
            .batch_execute(&internals::qualify(schema, "vacuum analyze cimd_cache.client_id_metadata"))
            .await?;
        Ok(())
    }
}
