//! The two tables: one for the events, one row of the other for how far each sink has come.

use crate::config::PostgresConfig;
use gateway_storage::Offset;
use tokio_postgres::{Client, Error, Transaction};

/// How far every sink has come; made when it is not there.
const POSITIONS: &str = "CREATE TABLE IF NOT EXISTS gateway_sinks (
    sink text PRIMARY KEY,
    generation bigint NOT NULL,
    next_offset bigint NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT now()
)";

/// What a table for events has. Columns beside these are the operator's own and need defaults.
const EVENTS: &str = "(
    stream_offset bigint NOT NULL,
    received_at timestamptz NOT NULL,
    client_id text NOT NULL,
    topic text NOT NULL,
    qos smallint NOT NULL,
    retain boolean NOT NULL,
    properties jsonb,
    payload bytea NOT NULL
)";

/// Makes what is missing. Of two gateways that do so at once one may fail, and finds everything there the next time.
pub(super) async fn prepare(client: &Client, config: &PostgresConfig) -> Result<(), Error> {
    if !exists(client, "gateway_sinks").await? {
        client.batch_execute(POSITIONS).await?;
    }
    if config.create_table && !exists(client, &config.table).await? {
        let table = &config.table;
        // The name consists of letters, digits, underscores and a full stop: the configuration takes no other.
        let index = table.replace('.', "_");
        client
            .batch_execute(&format!(
                "BEGIN; CREATE TABLE IF NOT EXISTS {table} {EVENTS};
                 CREATE INDEX IF NOT EXISTS {index}_stream_offset ON {table} (stream_offset); COMMIT"
            ))
            .await?;
    }
    Ok(())
}

async fn exists(client: &Client, table: &str) -> Result<bool, Error> {
    client.query_one("SELECT to_regclass($1) IS NOT NULL", &[&table]).await?.try_get(0)
}

/// How far the sink has come; its row is made when it is not there, or belongs to an earlier generation.
pub(super) async fn position(client: &mut Client, name: &str, generation: i64) -> Result<Offset, Error> {
    let row = client
        .query_one(
            "INSERT INTO gateway_sinks AS s (sink, generation, next_offset) VALUES ($1, $2, 0)
             ON CONFLICT (sink) DO UPDATE SET generation = $2,
                 next_offset = CASE WHEN s.generation = $2 THEN s.next_offset ELSE 0 END
             RETURNING next_offset",
            &[&name, &generation],
        )
        .await?;
    Ok(offset(row.try_get(0)?))
}

/// How far the sink has come, which nobody else changes before the transaction ends; `None`: it is another generation's turn.
pub(super) async fn lock(
    transaction: &Transaction<'_>,
    name: &str,
    generation: i64,
) -> Result<Option<Offset>, Error> {
    let row = transaction
        .query_opt(
            "SELECT next_offset FROM gateway_sinks WHERE sink = $1 AND generation = $2 FOR UPDATE",
            &[&name, &generation],
        )
        .await?;
    row.map(|row| row.try_get(0).map(offset)).transpose()
}

/// The table has everything below `next`.
pub(super) async fn advance(transaction: &Transaction<'_>, name: &str, next: Offset) -> Result<(), Error> {
    let next = next.get().cast_signed();
    transaction
        .execute(
            "UPDATE gateway_sinks SET next_offset = $2, updated_at = now() WHERE sink = $1",
            &[&name, &next],
        )
        .await?;
    Ok(())
}

fn offset(number: i64) -> Offset {
    Offset::new(u64::try_from(number).unwrap_or(0))
}
