# The Elixir client of service/clients as a way in: see tests/conformance/README.md. Started by elixir.sh, which compiles it.

unless Code.ensure_loaded?(JSON) do
  # Elixir has it since 1.18. Debian's is older, and the library that Debian has is jiffy.
  defmodule JSON do
    def decode(text) do
      {:ok, decode!(text)}
    catch
      :error, reason -> {:error, reason}
    end

    def decode!(text), do: :jiffy.decode(text, [:return_maps, :use_nil])
    def encode!(value), do: value |> :jiffy.encode([:use_nil]) |> IO.iodata_to_binary()
  end
end

defmodule Way do
  def run, do: run("elixir", ~w(get get-many put delete purge sweep check), &call/2)

  @doc "Answers requests until stdin ends, each in a process of its own."
  def run(name, calls, call) do
    # Lines are bytes, whatever the locale says.
    :ok = :io.setopts(:standard_io, encoding: :latin1)
    {:ok, _} = CimdCache.start_link(path: System.fetch_env!("CIMD_CACHE_SOCKET"), timeout: 20_000)
    hello = %{"name" => name, "version" => "0.1.0", "calls" => calls}

    for line <- IO.binstream(:stdio, :line) do
      spawn_link(fn -> line |> JSON.decode!() |> answer(hello, call) end)
    end
  end

  defp answer(%{"id" => id, "call" => "hello"}, hello, _call), do: write(%{"id" => id, "ok" => hello})

  defp answer(%{"id" => id, "call" => name} = request, _hello, call) do
    try do
      call.(name, request["args"] || %{})
    rescue
      error in CimdCache.Error -> {:error, error}
      # What this way cannot express, such as a time that is no DateTime.
      error -> {:error, %{code: inspect(error.__struct__)}}
    end
    |> case do
      {:error, error} -> write(%{"id" => id, "error" => error.code})
      ok -> write(%{"id" => id, "ok" => ok})
    end
  end

  defp write(answer), do: IO.binwrite(JSON.encode!(answer) <> "\n")

  defp call("get", %{"client_id" => client_id}), do: looked(CimdCache.get(CimdCache, client_id))

  defp call("get-many", %{"client_ids" => client_ids}) do
    with answers when is_list(answers) <- CimdCache.get_many(CimdCache, client_ids) do
      each = fn
        {:error, error} -> %{"error" => error.code}
        answer -> %{"ok" => looked(answer)}
      end

      %{"answers" => Enum.map(answers, each)}
    end
  end

  defp call("put", %{"client_id" => client_id, "metadata" => metadata} = args) do
    case CimdCache.put(CimdCache, client_id, metadata, args["ticket"], expiry(args)) do
      {:error, error} -> {:error, error}
      outcome -> %{"outcome" => Atom.to_string(outcome)}
    end
  end

  defp call("delete", %{"client_id" => client_id}) do
    with {:ok, had_document} <- CimdCache.delete(CimdCache, client_id), do: %{"had_document" => had_document}
  end

  defp call("purge", _), do: with(:ok <- CimdCache.purge(CimdCache), do: %{})
  defp call("check", _), do: with(:ok <- CimdCache.check(CimdCache), do: %{})

  defp call("sweep", %{"limit" => limit}) do
    with {:ok, removed, more} <- CimdCache.sweep(CimdCache, limit), do: %{"removed" => removed, "more" => more}
  end

  defp expiry(%{"expires_at" => seconds}), do: [expires_at: DateTime.from_unix!(seconds)]
  defp expiry(%{"expires_in" => seconds}), do: [expires_in: seconds]

  defp looked({:hit, entry}) do
    %{
      "outcome" => "hit",
      "metadata" => JSON.encode!(entry.metadata),
      "expires_at" => DateTime.to_unix(entry.expires_at),
      "fresh_for_ms" => entry.fresh_for_ms,
      "ticket" => entry.ticket
    }
  end

  defp looked({:miss, ticket}), do: %{"outcome" => "miss", "ticket" => ticket}
  defp looked({:error, error}), do: {:error, error}
end
