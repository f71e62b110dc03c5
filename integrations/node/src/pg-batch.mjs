// One statement in a transaction of its own, in one round trip: begin, the settings, the statement and commit
// travel together, and an error in one of them skips those after it. So no lock is held while this process is
// busy with something else. `client.query` takes an object with `submit`, as that of pg-cursor.

/** For each connection, the prepared statements that it is known to have. */
const PREPARED = new WeakMap();

export class Batch {
  /** With an empty `name` the statement is not prepared. */
  constructor({ text, parameters, name, statementTimeoutMs }) {
    this.text = text;
    this.parameters = parameters.map((value) => (value === null ? null : String(value)));
    this.statement = name;
    this.statementTimeoutMs = Number(statementTimeoutMs);
    this.rows = [];
    this.answer = new Promise((resolve, reject) => {
      this.resolve = resolve;
      this.reject = reject;
    });
  }

  submit(connection) {
    // One write for all messages.
    connection.stream.cork?.();
    try {
      this.#send(connection);
    } finally {
      connection.stream.uncork?.();
    }
  }

  #send(connection) {
    const run = (text, statement = '', values = [], isPrepared = false) => {
      if (!isPrepared) connection.parse({ text, name: statement, types: [] });
      connection.bind({ statement, values });
      connection.execute({});
    };
    run('begin isolation level read committed');
    run(`set local statement_timeout = ${this.statementTimeoutMs}`);
    const prepared = PREPARED.get(connection) ?? PREPARED.set(connection, new Set()).get(connection);
    const isPrepared = prepared.has(this.statement);
    // After an error nobody knows whether it was prepared. To close what is not there is no error.
    if (!isPrepared && this.statement !== '') connection.close({ type: 'S', name: this.statement });
    prepared.delete(this.statement);
    run(this.text, this.statement, this.parameters, isPrepared);
    run('commit');
    connection.sync();
    this.prepared = prepared;
  }

  /** Only the statement has rows. Their values are the server's texts. */
  handleDataRow({ fields }) {
    this.rows.push(fields);
  }

  handleReadyForQuery() {
    if (this.statement !== '') this.prepared.add(this.statement);
    this.resolve(this.rows);
  }

  handleError(error) {
    this.reject(error);
  }

  handleRowDescription() {}
  handleCommandComplete() {}
  handleEmptyQuery() {}
  handlePortalSuspended() {}
}
