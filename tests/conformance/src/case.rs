//! What may stand in a file of cases.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value};

/// One case.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Case {
    /// Its name, of which there is only one.
    pub id: String,
    /// The numbers of the contract that it is about.
    #[schemars(inner(range(min = 1, max = 15)), length(min = 1))]
    pub contract: Vec<u8>,
    /// What a way in has to have: `two-nodes`, `get-many`, `sweep-limit`; or the stage: `own-server`.
    #[serde(default)]
    pub needs: Vec<String>,
    pub(crate) steps: Vec<Step>,
}

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub(crate) enum Step {
    Start(Start),
    Finish(Finish),
    Together(Together),
    Call(Call),
    Database(Database),
    Age(Age),
    Rows(Rows),
}

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Call {
    pub(crate) call: String,
    #[serde(default)]
    pub(crate) on: Node,
    #[serde(default)]
    pub(crate) args: Map<String, Value>,
    pub(crate) expect: Value,
    /// Names, and which members of the answer they stand for from now on.
    #[serde(default)]
    pub(crate) save: BTreeMap<String, String>,
    pub(crate) within_ms: Option<u64>,
}

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Start {
    pub(crate) start: String,
    pub(crate) call: String,
    #[serde(default)]
    pub(crate) on: Node,
    #[serde(default)]
    pub(crate) args: Map<String, Value>,
}

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Finish {
    pub(crate) finish: String,
    pub(crate) expect: Value,
}

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Together {
    pub(crate) together: usize,
    pub(crate) call: String,
    #[serde(default)]
    pub(crate) args: Map<String, Value>,
    /// How many answers have each `outcome`.
    pub(crate) outcomes: BTreeMap<String, usize>,
}

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Database {
    pub(crate) database: Fault,
    pub(crate) client_id: Option<Value>,
}

#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, PartialEq, Eq, PartialOrd, Ord)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Fault {
    LockTable,
    LockRow,
    Release,
    Revoke,
    Grant,
    RenameTable,
    RenameBack,
    Terminate,
    ReadOnly,
    ReadWrite,
    Stop,
    Start,
    Freeze,
    Thaw,
}

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Age {
    /// In seconds.
    pub(crate) age: u32,
    pub(crate) client_id: Value,
}

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Rows {
    pub(crate) rows: RowsAre,
}

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub(crate) enum RowsAre {
    Count(i64),
    Word(Word),
}

#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Word {
    Note,
    Unchanged,
}

/// One of the two copies of a way in.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Node {
    #[default]
    A,
    B,
}
