//! Published client metadata documents, for the demo and the benchmark.

/// What clients in use publish.
pub(super) const DOCUMENTS: [&str; 7] = [
    include_str!("../../../tests/documents/cabildo.json"),
    include_str!("../../../tests/documents/claude-code.json"),
    include_str!("../../../tests/documents/flushes.json"),
    include_str!("../../../tests/documents/goose.json"),
    include_str!("../../../tests/documents/machine-client.json"),
    include_str!("../../../tests/documents/mcp-spec-example.json"),
    include_str!("../../../tests/documents/vscode.json"),
];
