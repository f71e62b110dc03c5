//! Client metadata documents, byte for byte as clients in use publish them: what the demo shows, the
//! benchmark stores and the tests begin with.

/// A document, by the name of its file.
#[derive(Clone, Copy, Debug)]
pub struct Document {
    /// The file's name, without its extension.
    pub name: &'static str,
    /// Its text.
    pub text: &'static str,
}

macro_rules! documents {
    ($($name:literal),* $(,)?) => {
        [$(Document { name: $name, text: include_str!(concat!($name, ".json")) }),*]
    };
}

/// All of them.
pub const ALL: [Document; 7] =
    documents!["cabildo", "claude-code", "flushes", "goose", "machine-client", "mcp-spec-example", "vscode",];
