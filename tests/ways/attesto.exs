# The cache for attesto_phoenix that docs/clients.md shows, as a way in. Compiled after elixir.exs, by elixir.sh.

defmodule AttestoPhoenix.ClientIdMetadata.Cache do
  # What attesto_phoenix asks of a cache, in place of attesto_phoenix, which is not on this machine.
  @callback get(url :: String.t()) :: {:ok, map()} | :miss
  @callback put(url :: String.t(), metadata :: map(), expires_at :: DateTime.t()) :: :ok
  @callback delete(url :: String.t()) :: :ok
  @callback delete_all() :: :ok
end

manual = Path.expand("../../docs/clients.md", __DIR__)
[_, example] = Regex.run(~r/```elixir\n(defmodule MyApp\.ClientMetadataCache .*?)```/s, File.read!(manual))
# The servers of the cases stall, and several cases run at once: the service answers, however long that takes.
[before, later] = String.split(example, "timeout_ms: 250")
Code.compile_string(before <> "timeout_ms: 20_000" <> later, manual)

defmodule AttestoWay do
  @moduledoc """
  attesto_phoenix gets, and fetches and puts in the same process if that misses. So a ticket is the name of a process here, which
  has done its get and waits for the put. And as a put's outcome is not told, a get by another process tells it.
  """

  alias MyApp.ClientMetadataCache, as: Cache

  def run, do: Way.run("attesto", ~w(get put delete purge), &call/2)

  defp call("get", %{"client_id" => url}) do
    {login, found} = login(url)

    case found do
      {:ok, metadata} -> %{"outcome" => "hit", "metadata" => JSON.encode!(metadata), "ticket" => login}
      :miss -> %{"outcome" => "miss", "ticket" => login}
      error -> error
    end
  end

  defp call("put", %{"client_id" => url, "metadata" => text} = args) do
    metadata = JSON.decode!(text)
    expires_at = args["expires_at"] || System.os_time(:second) + args["expires_in"]
    # No put comes without a get before it.
    login = args["ticket"] || elem(login(url), 0)
    send(String.to_existing_atom(login), {:put, self(), metadata, DateTime.from_unix!(expires_at)})

    receive do
      {:put, :ok} -> %{"outcome" => if(Cache.get(url) == {:ok, metadata}, do: "stored", else: "superseded")}
      {:put, error} -> error
    end
  end

  defp call("delete", %{"client_id" => url}) do
    had_document = Cache.get(url) != :miss
    :ok = Cache.delete(url)
    %{"had_document" => had_document}
  end

  defp call("purge", _), do: with(:ok <- Cache.delete_all(), do: %{})

  # Starts a process that gets, and then puts what it is sent.
  defp login(url) do
    way = self()
    name = :"login-#{System.unique_integer([:positive])}"

    spawn(fn ->
      Process.register(self(), name)
      send(way, {:found, result(fn -> Cache.get(url) end)})

      receive do
        {:put, way, metadata, expires_at} -> send(way, {:put, result(fn -> Cache.put(url, metadata, expires_at) end)})
      end
    end)

    receive do
      {:found, found} -> {Atom.to_string(name), found}
    end
  end

  defp result(call) do
    call.()
  rescue
    error in CimdCache.Error -> {:error, error}
  end
end
