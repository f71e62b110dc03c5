import com.google.gson.*;
import java.io.*;
import java.net.StandardProtocolFamily;
import java.net.UnixDomainSocketAddress;
import java.nio.*;
import java.nio.channels.*;
import java.nio.charset.*;
import java.nio.file.Path;
import java.time.*;
import java.util.*;
import java.util.concurrent.*;
import java.util.regex.Pattern;

/**
 * A client of `cimd-cache serve` over its Unix socket, to copy and adapt: Java 17 and Gson. Threads share one.
 *
 * <p>HttpClient has no Unix sockets, so the little of HTTP/1.1 that is needed is written out: every answer has a Content-Length.
 * JSON needs a library: Gson keeps numbers as they are written, and so does Jackson with USE_BIG_DECIMAL_FOR_FLOATS.
 */
public final class CimdCache {
    /** The answer to a get. Only getMany has answers that are Failed. */
    public sealed interface Lookup permits Hit, Miss, Failed {}

    /** `metadata` is the document as text; `freshFor` counts from before the call. */
    public record Hit(String metadata, Instant expiresAt, Duration freshFor, String ticket) implements Lookup {}
    public record Miss(String ticket) implements Lookup {}
    public record Failed(String code) implements Lookup {}
    public record Swept(int removed, boolean more) {}

    /** What an origin gave: the document as text, and the lifetime that the response allows. */
    public record Fetched(String metadata, Duration lifetime) {}

    public interface Origin { Fetched fetchAndValidate(String clientId) throws Exception; }

    /** A call that failed. `code` says what to do: docs/operating.md has the list. */
    public static final class CacheException extends RuntimeException {
        public final String code;

        CacheException(String code, String detail, Throwable cause) {
            super(code + ": " + detail, cause);
            this.code = code;
        }

        /** Whether the cache cannot be used now; else the call is wrong. */
        public boolean isAway() {
            return Set.of("unavailable", "timed-out", "storage", "not-configured").contains(code);
        }
    }

    private static final System.Logger LOG = System.getLogger(CimdCache.class.getName());
    private static final Pattern STATUS = Pattern.compile("^HTTP/1\\.1 (\\d{3}) ");
    private static final Pattern LENGTH = Pattern.compile("(?i)\r\nContent-Length: *(\\d{1,9})\r\n");
    private static final Pattern CLOSE = Pattern.compile("(?i)\r\nConnection: *close\r\n");
    private static final int MOST_IDLE = 16;

    private final UnixDomainSocketAddress address;
    private final Duration timeout;
    private final Deque<SocketChannel> idle = new ConcurrentLinkedDeque<>();
    private final Semaphore fetchesWithoutCache = new Semaphore(16);

    /** `timeout` is a little more than the service's deadline, such as 3 seconds, so that the service answers first. */
    public CimdCache(Path socket, Duration timeout) {
        this.address = UnixDomainSocketAddress.of(socket);
        this.timeout = timeout;
    }

    /** The document of a client, as text: from the cache, else from its origin. What the origin throws is thrown. */
    public String resolve(String clientId, Origin origin) throws Exception {
        Lookup found;
        try {
            found = get(clientId, Duration.ofMillis(250));
        } catch (CacheException failure) {
            // The choice made here: while the cache is away, documents are fetched for each call and not stored. No more than 16
            // at a time, or whoever sends many requests makes this server send as many.
            if (!failure.isAway() || !fetchesWithoutCache.tryAcquire()) throw failure;
            try {
                LOG.log(System.Logger.Level.WARNING, "the cache is away: a document is fetched and not stored", failure);
                return origin.fetchAndValidate(clientId).metadata();
            } finally {
                fetchesWithoutCache.release();
            }
        }
        if (found instanceof Hit hit) return hit.metadata();
        var fetched = origin.fetchAndValidate(clientId);
        try {
            // If it is superseded, what was fetched is good for this call, and for no other one.
            put(clientId, fetched.metadata(), ((Miss) found).ticket(), fetched.lifetime());
        } catch (CacheException failure) {
            if (!failure.isAway()) throw failure;
            LOG.log(System.Logger.Level.WARNING, "the cache is away: a document is not stored", failure);
        }
        return fetched.metadata();
    }

    public Lookup get(String clientId) {
        return lookup(call("GET", document(clientId), null));
    }

    /** A get for which the service has `within`; this client waits a little longer. */
    public Lookup get(String clientId, Duration within) {
        var header = "Cimd-Timeout-Ms: " + within.toMillis() + "\r\n";
        return lookup(call("GET", document(clientId), header, null, within.plusMillis(250), true));
    }

    /** The answers to 1 to 64 gets, in the same order. */
    public List<Lookup> getMany(List<String> clientIds) {
        var body = new Gson().toJson(Map.of("client_ids", clientIds));
        var answers = call("POST", "/v1/lookup", body).getAsJsonArray("answers");
        return answers.asList().stream().map(answer -> lookup(answer.getAsJsonObject())).toList();
    }

    /** Whether it was stored; else it is superseded. `ticket` is the get's before the fetch; null states that there is none. */
    public boolean put(String clientId, String metadata, String ticket, Duration lifetime) {
        return put(clientId, metadata, ticket, "&expires_in=" + lifetime.toSeconds());
    }

    public boolean put(String clientId, String metadata, String ticket, Instant expiresAt) {
        return put(clientId, metadata, ticket, "&expires_at=" + encoded(expiresAt.toString()));
    }

    private boolean put(String clientId, String metadata, String ticket, String expiry) {
        var target = document(clientId) + "&ticket=" + (ticket == null ? "none" : encoded(ticket)) + expiry;
        // A put without a ticket is not repeated: it could undo a delete.
        return call("PUT", target, "", metadata, timeout, ticket != null).get("outcome").getAsString().equals("stored");
    }

    /** Whether there was a document. */
    public boolean delete(String clientId) {
        return call("DELETE", document(clientId), null).get("had_document").getAsBoolean();
    }

    public void purge() {
        call("POST", "/v1/purge", null);
    }

    public Swept sweep(int limit) {
        return new Gson().fromJson(call("POST", "/v1/sweep?limit=" + limit, null), Swept.class);
    }

    /** Throws `not-ready` if the service cannot use its database. */
    public void check() {
        call("GET", "/v1/check", null);
    }

    private static Lookup lookup(JsonObject answer) {
        return switch (answer.get("outcome").getAsString()) {
            case "hit" -> new Hit(answer.get("metadata").toString(), Instant.parse(answer.get("expires_at").getAsString()),
                    Duration.ofMillis(answer.get("fresh_for_ms").getAsLong()), answer.get("ticket").getAsString());
            case "miss" -> new Miss(answer.get("ticket").getAsString());
            default -> new Failed(answer.get("code").getAsString());
        };
    }

    private static String document(String clientId) {
        return "/v1/document?client_id=" + encoded(clientId);
    }

    /** Each byte but the unreserved ones (RFC 3986). URLEncoder is for forms, where a space is a +. */
    private static String encoded(String text) {
        var encoded = new StringBuilder();
        for (byte b : utf8(text, "invalid-url")) {
            var isPlain = b >= 'a' && b <= 'z' || b >= 'A' && b <= 'Z' || b >= '0' && b <= '9' || "-._~".indexOf(b) >= 0;
            encoded.append(isPlain ? "" + (char) b : String.format("%%%02X", b));
        }
        return encoded.toString();
    }

    /** String.getBytes turns half a surrogate pair into "?", and so one client_id into another. */
    private static byte[] utf8(String text, String code) {
        try {
            var bytes = StandardCharsets.UTF_8.newEncoder().encode(CharBuffer.wrap(text));
            return Arrays.copyOf(bytes.array(), bytes.limit());
        } catch (CharacterCodingException failure) {
            throw new CacheException(code, "the text has half a surrogate pair: decode strictly what you receive", failure);
        }
    }

    private JsonObject call(String method, String target, String body) {
        return call(method, target, "", body, timeout, true);
    }

    private JsonObject call(String method, String target, String header, String body, Duration within, boolean mayRepeat) {
        var content = utf8(body == null ? "" : body, "invalid-metadata");
        var type = body == null ? "" : "Content-Type: application/json\r\n";
        var head = method + " " + target + " HTTP/1.1\r\nHost: localhost\r\n" + header + type
                + "Content-Length: " + content.length + "\r\n";
        var request = ByteBuffer.allocate(head.length() + 2 + content.length);
        request.put((head + "\r\n").getBytes(StandardCharsets.US_ASCII)).put(content).flip();
        var deadline = System.nanoTime() + within.toNanos();
        for (var channel = mayRepeat ? idle.pollFirst() : null; ; channel = null) {
            try {
                var used = channel != null ? channel : SocketChannel.open(StandardProtocolFamily.UNIX);
                return exchange(used, request.duplicate(), deadline);
            } catch (IOException | JsonParseException | IllegalStateException failure) {
                // The service may have closed a connection that was idle: the call is repeated on a new one.
                if (channel == null) throw new CacheException("unavailable", "the service gives no answer", failure);
            }
        }
    }

    private JsonObject exchange(SocketChannel channel, ByteBuffer request, long deadline) throws IOException {
        // A channel has no timeout for reads: it is closed when the answer is overdue.
        var answered = new CompletableFuture<Void>();
        answered.whenComplete((none, overdue) -> { if (overdue != null) close(channel); });
        answered.orTimeout(Math.max(deadline - System.nanoTime(), 0), TimeUnit.NANOSECONDS);
        var isReusable = false;
        try {
            if (!channel.isConnected()) channel.connect(address);
            while (request.hasRemaining()) channel.write(request);
            var in = new BufferedInputStream(Channels.newInputStream(channel));
            var head = new StringBuilder();
            for (int b; head.indexOf("\r\n\r\n", head.length() - 4) < 0; head.append((char) b)) {
                if ((b = in.read()) < 0 || head.length() > 16384) throw new EOFException("no whole head");
            }
            var status = STATUS.matcher(head);
            var length = LENGTH.matcher(head);
            if (!status.find() || !length.find()) throw new IOException("an answer without a status or a length");
            var body = in.readNBytes(Integer.parseInt(length.group(1)));
            // A body that was cut short is not JSON.
            var answer = JsonParser.parseString(new String(body, StandardCharsets.UTF_8)).getAsJsonObject();
            isReusable = !CLOSE.matcher(head).find();
            if (status.group(1).equals("200")) return answer;
            throw new CacheException(answer.get("code").getAsString(), answer.get("detail").getAsString(), null);
        } catch (IOException failure) {
            if (!answered.isDone()) throw failure;
            throw new CacheException("timed-out", "the service has not answered in time", failure);
        } finally {
            // What is left of an answer must not be taken for the answer to the next call.
            if (answered.complete(null) && isReusable && idle.size() < MOST_IDLE) idle.addFirst(channel);
            else close(channel);
        }
    }

    private static void close(SocketChannel channel) {
        try {
            channel.close();
        } catch (IOException ignored) {} // It is of no more use.
    }
}
