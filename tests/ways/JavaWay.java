import com.google.gson.Gson;
import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import java.io.BufferedReader;
import java.io.FileDescriptor;
import java.io.FileOutputStream;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.time.Duration;
import java.time.Instant;
import java.util.List;
import java.util.Map;

/** The Java client of service/clients as a way in: see tests/conformance/README.md. Started by java.sh. */
final class JavaWay {
    private static final CimdCache CACHE =
            new CimdCache(Path.of(System.getenv("CIMD_CACHE_SOCKET")), Duration.ofSeconds(20));
    private static final PrintStream OUT =
            new PrintStream(new FileOutputStream(FileDescriptor.out), true, StandardCharsets.UTF_8);
    private static final Gson GSON = new Gson();
    private static final List<String> CALLS = List.of("get", "get-many", "put", "delete", "purge", "sweep", "check");

    public static void main(String[] arguments) throws Exception {
        var lines = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        for (var line = lines.readLine(); line != null; line = lines.readLine()) {
            var request = JsonParser.parseString(line).getAsJsonObject();
            new Thread(() -> answer(request)).start();
        }
    }

    private static void answer(JsonObject request) {
        var answer = new JsonObject();
        answer.add("id", request.get("id"));
        try {
            answer.add("ok", GSON.toJsonTree(call(request.get("call").getAsString(), request.getAsJsonObject("args"))));
        } catch (CimdCache.CacheException failure) {
            answer.addProperty("error", failure.code);
        }
        OUT.println(answer);
    }

    private static Object call(String call, JsonObject args) {
        return switch (call) {
            case "hello" -> Map.of("name", "java", "version", "0.1.0", "calls", CALLS);
            case "get" -> looked(CACHE.get(clientId(args)));
            case "get-many" -> {
                var clientIds = args.getAsJsonArray("client_ids").asList().stream().map(id -> id.getAsString()).toList();
                yield Map.of("answers", CACHE.getMany(clientIds).stream().map(JavaWay::one).toList());
            }
            case "put" -> Map.of("outcome", put(args) ? "stored" : "superseded");
            case "delete" -> Map.of("had_document", CACHE.delete(clientId(args)));
            case "purge" -> {
                CACHE.purge();
                yield Map.of();
            }
            case "sweep" -> CACHE.sweep(args.get("limit").getAsInt());
            case "check" -> {
                CACHE.check();
                yield Map.of();
            }
            default -> throw new IllegalArgumentException("no call " + call);
        };
    }

    private static String clientId(JsonObject args) {
        return args.get("client_id").getAsString();
    }

    private static boolean put(JsonObject args) {
        var metadata = args.get("metadata").getAsString();
        var ticket = args.has("ticket") ? args.get("ticket").getAsString() : null;
        if (args.has("expires_at")) {
            var expiresAt = Instant.ofEpochSecond(args.get("expires_at").getAsLong());
            return CACHE.put(clientId(args), metadata, ticket, expiresAt);
        }
        return CACHE.put(clientId(args), metadata, ticket, Duration.ofSeconds(args.get("expires_in").getAsLong()));
    }

    private static Map<String, Object> looked(CimdCache.Lookup answer) {
        if (answer instanceof CimdCache.Hit hit) {
            return Map.of("outcome", "hit", "metadata", hit.metadata(), "expires_at", hit.expiresAt().getEpochSecond(),
                    "fresh_for_ms", hit.freshFor().toMillis(), "ticket", hit.ticket());
        }
        return Map.of("outcome", "miss", "ticket", ((CimdCache.Miss) answer).ticket());
    }

    private static Map<String, Object> one(CimdCache.Lookup answer) {
        return answer instanceof CimdCache.Failed failed ? Map.of("error", failed.code()) : Map.of("ok", looked(answer));
    }
}
