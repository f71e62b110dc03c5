defmodule CimdCache do
  @moduledoc """
  A client of `cimd-cache serve` over its Unix socket, to copy and adapt: Elixir 1.18 and OTP. Before 1.18 any JSON
  library will do, under the name `JSON`. One is started under a supervisor, and all processes share it.

      children = [{CimdCache, path: "/run/cimd-cache/cache.sock"}]
      {:ok, metadata} = CimdCache.resolve(CimdCache, client_id, &fetch_and_validate/1)

  A call that fails returns `{:error, %CimdCache.Error{}}`.
  """

  use GenServer
  require Logger

  defmodule Error do
    @moduledoc "A call that failed. `code` says what to do: docs/operating.md has the list."
    defexception [:code, :detail]

    @impl true
    def message(error), do: "#{error.code}: #{error.detail}"
  end

  @socket [:binary, active: false, packet: :http_bin, send_timeout: 1_000]
  @most_idle 16

  @doc "`timeout`, in ms, is a little more than the service's deadline, so that the service answers first."
  def start_link(options) do
    state = %{path: Keyword.fetch!(options, :path), timeout: Keyword.get(options, :timeout, 3_000), idle: []}
    GenServer.start_link(__MODULE__, state, name: Keyword.get(options, :name, __MODULE__))
  end

  @doc """
  The document of a client: from the cache, else from its origin. `fetch_and_validate` returns the document as text and
  the seconds that the response allows, `{:ok, text, lifetime}`. Anything else is returned, and nothing is stored.

  The choice made here: while the cache is away, requests are refused. Whoever fetches instead must not store, and has
  to bound how many fetches there are at once.
  """
  def resolve(cache, client_id, fetch_and_validate) do
    with {:miss, ticket} <- get(cache, client_id, timeout_ms: 250),
         {:ok, text, lifetime} <- fetch_and_validate.(client_id),
         :ok <- accepted(put(cache, client_id, text, ticket, expires_in: lifetime)) do
      {:ok, JSON.decode!(text)}
    else
      {:hit, entry} -> {:ok, entry.metadata}
      other -> other
    end
  end

  defp accepted({:error, %Error{code: "invalid-" <> _} = error}), do: {:error, error}
  defp accepted({:error, error}), do: Logger.warning("a document is not stored: #{Exception.message(error)}")
  # If it is superseded, what was fetched is good for this call, and for no other one.
  defp accepted(outcome) when outcome in [:stored, :superseded], do: :ok

  @doc """
  `{:hit, %{metadata: …, expires_at: …, fresh_for_ms: …, ticket: …}}` or `{:miss, ticket}`. For `timeout_ms` the service
  tries, and this client waits a little longer.
  """
  def get(cache, client_id, options \\ []) do
    with {:ok, answer} <- call(cache, "GET", document(client_id), options), do: looked(answer)
  end

  @doc "The answers to 1 to 64 gets, in the same order."
  def get_many(cache, client_ids) do
    body = JSON.encode!(%{"client_ids" => client_ids})

    with {:ok, %{"answers" => answers}} <- call(cache, "POST", "/v1/lookup", body: body),
         do: Enum.map(answers, &looked/1)
  end

  @doc """
  `:stored` or `:superseded`. `metadata` is the document as text, `ticket` that of the get before the fetch (`nil` states
  that there is none), and `expires_in: seconds` or `expires_at: date_time` its lifetime.
  """
  def put(cache, client_id, metadata, ticket, [{expiry, value}]) when expiry in [:expires_in, :expires_at] do
    target = document(client_id) <> "&ticket=#{encoded(ticket || "none")}&#{expiry}=#{encoded(text(value))}"

    # A put without a ticket is not repeated: it could undo a delete.
    with {:ok, %{"outcome" => outcome}} <- call(cache, "PUT", target, body: metadata, repeat: ticket != nil),
         do: Map.fetch!(%{"stored" => :stored, "superseded" => :superseded}, outcome)
  end

  @doc "`{:ok, had_document}`"
  def delete(cache, client_id) do
    with {:ok, %{"had_document" => had_document}} <- call(cache, "DELETE", document(client_id)), do: {:ok, had_document}
  end

  def purge(cache), do: with({:ok, _} <- call(cache, "POST", "/v1/purge"), do: :ok)

  @doc "`{:ok, removed, more}`"
  def sweep(cache, limit \\ 1000) do
    with {:ok, answer} <- call(cache, "POST", "/v1/sweep?limit=#{limit}"), do: {:ok, answer["removed"], answer["more"]}
  end

  @doc "`:ok`, or the error `not-ready` if the service cannot use its database."
  def check(cache), do: with({:ok, _} <- call(cache, "GET", "/v1/check"), do: :ok)

  defp looked(%{"outcome" => "hit", "expires_at" => expires_at} = answer) do
    {:ok, expires_at, 0} = DateTime.from_iso8601(expires_at)
    %{"metadata" => metadata, "fresh_for_ms" => fresh_for_ms, "ticket" => ticket} = answer
    {:hit, %{metadata: metadata, expires_at: expires_at, fresh_for_ms: fresh_for_ms, ticket: ticket}}
  end

  defp looked(%{"outcome" => "miss", "ticket" => ticket}), do: {:miss, ticket}
  defp looked(%{"outcome" => "error"} = answer), do: error(answer["code"], answer["detail"])

  defp document(client_id), do: "/v1/document?client_id=" <> encoded(client_id)
  defp text(%DateTime{} = time), do: DateTime.to_iso8601(time)
  defp text(seconds), do: Integer.to_string(seconds)

  # Each byte but the unreserved ones. URI.encode_query and encode_www_form are for forms, where a space is a +.
  defp encoded(text), do: URI.encode(text, &URI.char_unreserved?/1)

  defp call(cache, method, target, options \\ []) do
    {body, within} = {options[:body], options[:timeout_ms]}

    head = [
      "#{method} #{target} HTTP/1.1\r\nHost: localhost\r\nContent-Length: #{byte_size(body || "")}\r\n",
      if(body, do: "Content-Type: application/json\r\n", else: []),
      if(within, do: "Cimd-Timeout-Ms: #{within}\r\n", else: [])
    ]

    {pool, kept, path, timeout} = GenServer.call(cache, {:take, Keyword.get(options, :repeat, true)})
    deadline = now() + if(within, do: within + 250, else: timeout)
    request = [head, "\r\n", body || ""]

    # The service closes a connection that was idle: then the call is repeated on a new one.
    result =
      with {:error, reason} when reason != :timeout <- exchange(pool, kept, request, deadline),
           {:ok, socket} <- :gen_tcp.connect({:local, path}, 0, @socket, left(deadline)),
           do: exchange(pool, socket, request, deadline)

    case result do
      {:ok, status, text} -> answer(status, JSON.decode(text))
      {:error, :timeout} -> error("timed-out", "the service has not answered in time")
      {:error, reason} -> error("unavailable", "the service gives no answer: #{inspect(reason)}")
    end
  end

  defp answer(200, {:ok, answer}), do: {:ok, answer}
  defp answer(_, {:ok, %{"code" => code, "detail" => detail}}), do: error(code, detail)
  defp answer(status, _), do: error("unavailable", "HTTP #{status} is no answer of the service")

  defp error(code, detail), do: {:error, %Error{code: code, detail: detail}}

  defp exchange(_pool, nil, _request, _deadline), do: {:error, :none_kept}

  defp exchange(pool, socket, request, deadline) do
    with :ok <- :gen_tcp.send(socket, request),
         {:ok, {:http_response, _, status, _}} <- :gen_tcp.recv(socket, 0, left(deadline)),
         {:ok, %{:"Content-Length" => length} = headers} <- headers(socket, deadline, %{}),
         :ok <- :inet.setopts(socket, packet: :raw),
         {:ok, text} <- :gen_tcp.recv(socket, String.to_integer(length), left(deadline)),
         :ok <- :inet.setopts(socket, packet: :http_bin) do
      if headers[:Connection] == "close", do: :gen_tcp.close(socket), else: keep(pool, socket)
      {:ok, status, text}
    else
      # What is left of an answer must not be taken for the answer to the next call.
      failure ->
        :gen_tcp.close(socket)
        with {:ok, _} <- failure, do: {:error, :not_http}
    end
  end

  defp headers(socket, deadline, headers) do
    case :gen_tcp.recv(socket, 0, left(deadline)) do
      {:ok, {:http_header, _, name, _, value}} -> headers(socket, deadline, Map.put(headers, name, value))
      {:ok, :http_eoh} -> {:ok, headers}
      other -> other
    end
  end

  defp now, do: System.monotonic_time(:millisecond)
  defp left(deadline), do: max(deadline - now(), 0)

  # Idle connections belong to the client's process: a connection ends with its owner, and callers come and go.
  defp keep(pool, socket) do
    with :ok <- :gen_tcp.controlling_process(socket, pool), do: GenServer.cast(pool, {:keep, socket})
  end

  @impl true
  def init(state), do: {:ok, state}

  @impl true
  def handle_call({:take, true}, {caller, _}, %{idle: [socket | idle]} = state) do
    # An error means that the caller has died while it waited.
    with {:error, _} <- :gen_tcp.controlling_process(socket, caller), do: :gen_tcp.close(socket)
    {:reply, {self(), socket, state.path, state.timeout}, %{state | idle: idle}}
  end

  def handle_call({:take, _}, _from, state), do: {:reply, {self(), nil, state.path, state.timeout}, state}

  @impl true
  def handle_cast({:keep, socket}, state) do
    {idle, surplus} = Enum.split([socket | state.idle], @most_idle)
    Enum.each(surplus, &:gen_tcp.close/1)
    {:noreply, %{state | idle: idle}}
  end
end
