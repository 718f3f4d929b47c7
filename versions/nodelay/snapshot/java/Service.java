import com.sun.management.GarbageCollectionNotificationInfo;
import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpServer;
import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.lang.management.ManagementFactory;
import java.lang.management.MemoryPoolMXBean;
import java.lang.management.MemoryType;
import java.lang.management.MemoryUsage;
import java.net.HttpURLConnection;
import java.net.InetSocketAddress;
import java.net.URI;
import java.util.Base64;
import java.util.Comparator;
import java.util.HashMap;
import java.util.Map;
import java.util.concurrent.ConcurrentNavigableMap;
import java.util.concurrent.ConcurrentSkipListMap;
import java.util.concurrent.Executors;
import java.util.concurrent.Semaphore;
import java.util.concurrent.TimeUnit;
import java.util.function.ToLongFunction;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.stream.Collectors;
import javax.management.NotificationEmitter;
import javax.management.openmbean.CompositeData;

import static java.nio.charset.StandardCharsets.ISO_8859_1;

/** Word statistics and Collatz chains over HTTP/1.1, on the JDK's own server. */
public final class Service {
    private static final int MAX_BODY = 1 << 20, MAX_DEPTH = 64, MAX_LIMIT = 1_000_000, TOP_WORDS = 5;
    private static final int THREADS = 8, BACKLOG = 128, DRAIN_S = 2, LINGER_MIB = 4;
    private static final Map<String, String> METHODS = Map.of(
            "/healthz", "GET", "/metrics", "GET", "/invoke/word-stats", "POST", "/invoke/collatz", "POST",
            "/invoke/word-stats-async", "POST");
    private static final int BROKER_MS = 5000;
    private static final Map<Integer, String> REASONS = Map.of(
            404, "Not Found", 405, "Method Not Allowed", 413, "Content Too Large", 500, "Internal Server Error");

    private final ConcurrentNavigableMap<String, Timer> requests = new ConcurrentSkipListMap<>();
    private final ConcurrentNavigableMap<String, Timer> pauses = new ConcurrentSkipListMap<>();
    private final Semaphore inFlight = new Semaphore(THREADS, true);

    private record Reply(int status, String body) {
        static Reply error(int status, String message) {
            return new Reply(status, "{\"error\":\"" + message + "\"}");
        }

        static Reply error(int status) {
            return error(status, REASONS.get(status));
        }
    }

    private record Timer(long count, double seconds, double max) {
        Timer plus(Timer other) {
            return new Timer(count + other.count, seconds + other.seconds, Math.max(max, other.max));
        }
    }

    public static void main(String[] args) throws IOException {
        String host = System.getenv("STAGING_HOST"), port = System.getenv("STAGING_PORT");
        if (host == null || port == null) {
            System.err.println("STAGING_HOST and STAGING_PORT must say where to listen");
            System.exit(1);
        }
        Service service = new Service();
        service.watchCollections();
        HttpServer server = HttpServer.create(new InetSocketAddress(host, Integer.parseInt(port)), BACKLOG);
        server.setExecutor(Executors.newFixedThreadPool(THREADS));
        server.createContext("/", service::handle);
        Runtime.getRuntime().addShutdownHook(new Thread(() -> service.stop(server)));
        server.start();
    }

    /** Waits for the requests in hand, keeps new ones out, and leaves with 0 rather than with the signal's 143. */
    private void stop(HttpServer server) {
        try {
            inFlight.tryAcquire(THREADS, DRAIN_S, TimeUnit.SECONDS);
            server.stop(0);
        } catch (InterruptedException interrupted) {
            Thread.currentThread().interrupt();
        }
        Runtime.getRuntime().halt(0);
    }

    private void handle(HttpExchange exchange) throws IOException {
        inFlight.acquireUninterruptibly();
        try {
            long began = System.nanoTime();
            String path = exchange.getRequestURI().getPath();
            Reply reply = answer(exchange, path);
            String uri = METHODS.containsKey(path) ? path : "UNKNOWN";
            String outcome = reply.status < 400 ? "SUCCESS" : reply.status < 500 ? "CLIENT_ERROR" : "SERVER_ERROR";
            // Counted before it is sent: whoever holds an answer finds it in the metrics.
            record(requests, "outcome=\"%s\",status=\"%d\",uri=\"%s\"".formatted(outcome, reply.status, uri),
                    (System.nanoTime() - began) / 1e9);
            send(exchange, reply, uri);
        } finally {
            inFlight.release();
        }
    }

    private Reply answer(HttpExchange exchange, String path) throws IOException {
        String method = METHODS.get(path);
        if (method == null) {
            return Reply.error(404);
        }
        if (!method.equals(exchange.getRequestMethod())) {
            exchange.getResponseHeaders().set("Allow", method);
            return Reply.error(405);
        }
        try {
            return switch (path) {
                case "/healthz" -> new Reply(200, "{\"status\":\"UP\"}");
                case "/metrics" -> new Reply(200, metrics());
                default -> invoke(path, exchange.getRequestBody());
            };
        } catch (RuntimeException failure) {
            failure.printStackTrace();
            return Reply.error(500);
        }
    }

    /** One byte is one char: outside ASCII a character only separates words, so UTF-8 need not be decoded. */
    private static Reply invoke(String path, InputStream in) throws IOException {
        byte[] body = in.readNBytes(MAX_BODY + 1);
        int length = body.length;
        if (length > MAX_BODY) {
            // Closing with unread input would reset the connection and could destroy the answer: drain a bounded rest.
            for (int mib = 0; mib < LINGER_MIB && in.readNBytes(body, 0, MAX_BODY) > 0; mib++) { }
            return Reply.error(413);
        }
        String json = new String(body, 0, length, ISO_8859_1);
        return switch (path) {
            case "/invoke/collatz" -> collatz(json);
            case "/invoke/word-stats-async" -> enqueue(json);
            default -> wordStats(json);
        };
    }

    private static void send(HttpExchange exchange, Reply reply, String uri) throws IOException {
        byte[] body = reply.body.getBytes(ISO_8859_1);
        boolean headOnly = exchange.getRequestMethod().equals("HEAD");
        boolean metrics = uri.equals("/metrics");
        exchange.getResponseHeaders().set("Content-Type",
                metrics ? "text/plain; version=0.0.4; charset=utf-8" : "application/json");
        exchange.sendResponseHeaders(reply.status, headOnly ? -1 : body.length);
        if (!headOnly) {
            try (OutputStream out = exchange.getResponseBody()) {
                out.write(body);
            }
        }
    }

    private static Reply wordStats(String json) {
        if (!(Json.parseObject(json).get("text") instanceof String text)) {
            return Reply.error(400, "the body must be a JSON object with a string text");
        }
        Map<String, Integer> counts = new HashMap<>();
        StringBuilder word = new StringBuilder();
        String longest = "";
        int words = 0;
        for (int i = 0; i <= text.length(); i++) {
            char c = i < text.length() ? text.charAt(i) : ' ';
            if (c >= 'a' && c <= 'z' || c >= '0' && c <= '9') {
                word.append(c);
            } else if (c >= 'A' && c <= 'Z') {
                word.append((char) (c + 'a' - 'A'));
            } else if (word.length() > 0) {
                String found = word.toString();
                words++;
                counts.merge(found, 1, Integer::sum);
                int longer = found.length() - longest.length();
                longest = longer > 0 || longer == 0 && found.compareTo(longest) < 0 ? found : longest;
                word.setLength(0);
            }
        }
        Comparator<Map.Entry<String, Integer>> mostFirst = Map.Entry.<String, Integer>comparingByValue().reversed();
        String top = counts.entrySet().stream()
                .sorted(mostFirst.thenComparing(Map.Entry.comparingByKey()))
                .limit(TOP_WORDS)
                .map(entry -> "[\"" + entry.getKey() + "\"," + entry.getValue() + "]")
                .collect(Collectors.joining(",", "[", "]"));
        return new Reply(200, "{\"words\":%d,\"unique\":%d,\"longest\":\"%s\",\"top\":%s}".formatted(
                words, counts.size(), longest, top));
    }

    /** A task is published by the broker's management API, so that plain HTTP is enough. */
    private static Reply enqueue(String json) {
        if (!(Json.parseObject(json).get("text") instanceof String)) {
            return Reply.error(400, "the body must be a JSON object with a string text");
        }
        if (System.getenv("STAGING_BROKER_API") == null) {
            return Reply.error(503, "there is no broker: STAGING_BROKER_API is not set");
        }
        try {
            return publish(json.getBytes(ISO_8859_1)) ? new Reply(202, "{\"queued\":true}")
                    : Reply.error(503, "the broker did not take it");
        } catch (IOException | RuntimeException failure) {
            return Reply.error(503, "the broker did not take it");
        }
    }

    private static boolean publish(byte[] body) throws IOException {
        Base64.Encoder base64 = Base64.getEncoder();
        String login = System.getenv("STAGING_BROKER_USER") + ":" + System.getenv("STAGING_BROKER_PASSWORD");
        String message = """
                {"properties":{"delivery_mode":2},"routing_key":"%s","payload_encoding":"base64","payload":"%s"}
                """.formatted(System.getenv("STAGING_BROKER_QUEUE"), base64.encodeToString(body));
        URI uri = URI.create(System.getenv("STAGING_BROKER_API") + "/api/exchanges/%2F/amq.default/publish");
        HttpURLConnection connection = (HttpURLConnection) uri.toURL().openConnection();
        connection.setConnectTimeout(BROKER_MS);
        connection.setReadTimeout(BROKER_MS);
        connection.setRequestProperty("Authorization", "Basic " + base64.encodeToString(login.getBytes(ISO_8859_1)));
        connection.setRequestProperty("Content-Type", "application/json");
        connection.setDoOutput(true);
        try (OutputStream out = connection.getOutputStream()) {
            out.write(message.getBytes(ISO_8859_1));
        }
        try (InputStream in = connection.getInputStream()) { // fails for an answer that is no success
            return new String(in.readAllBytes(), ISO_8859_1).contains("\"routed\":true");
        }
    }

    private static Reply collatz(String json) {
        if (!(Json.parseObject(json).get("limit") instanceof Long limit) || limit < 2 || limit > MAX_LIMIT) {
            return Reply.error(400, "the body must be a JSON object with an integer limit from 2 to " + MAX_LIMIT);
        }
        int bestStart = 1, bestLength = 1;
        for (int start = 2; start < limit; start++) {
            int chain = 1;
            for (long n = start; n != 1; chain++) {
                n = n % 2 != 0 ? 3 * n + 1 : n / 2;
            }
            if (chain > bestLength) {
                bestStart = start;
                bestLength = chain;
            }
        }
        return new Reply(200, "{\"limit\":%d,\"start\":%d,\"length\":%d}".formatted(limit, bestStart, bestLength));
    }

    private static void record(Map<String, Timer> timers, String labels, double seconds) {
        timers.merge(labels, new Timer(1, seconds, seconds), Timer::plus);
    }

    private void watchCollections() {
        // Starts at zero, so that a window's first collection is not lost in a series that was not there before.
        pauses.put("action=\"end of minor GC\",cause=\"Allocation Failure\",gc=\"Copy\"", new Timer(0, 0, 0));
        for (var collector : ManagementFactory.getGarbageCollectorMXBeans()) {
            ((NotificationEmitter) collector).addNotificationListener((notification, nothing) -> {
                var info = GarbageCollectionNotificationInfo.from((CompositeData) notification.getUserData());
                record(pauses, "action=\"%s\",cause=\"%s\",gc=\"%s\"".formatted(
                        info.getGcAction(), info.getGcCause(), info.getGcName()), info.getGcInfo().getDuration() / 1e3);
            }, null, null);
        }
    }

    private String metrics() {
        StringBuilder out = new StringBuilder();
        writePools(out, "jvm_memory_used_bytes", MemoryUsage::getUsed);
        writePools(out, "jvm_memory_max_bytes", MemoryUsage::getMax);
        writeTimers(out, "jvm_gc_pause_seconds", pauses);
        out.append("# TYPE jvm_gc_pause_seconds_max gauge\n"); // of the process's whole life
        pauses.forEach((labels, timer) -> out.append("jvm_gc_pause_seconds_max{%s} %s\n".formatted(labels, timer.max)));
        out.append("# TYPE jvm_threads_live_threads gauge\njvm_threads_live_threads ")
                .append(ManagementFactory.getThreadMXBean().getThreadCount()).append('\n');
        out.append("# TYPE process_uptime_seconds gauge\nprocess_uptime_seconds ")
                .append(ManagementFactory.getRuntimeMXBean().getUptime() / 1e3).append('\n');
        writeTimers(out, "http_server_requests_seconds", requests);
        return out.toString();
    }

    private static void writePools(StringBuilder out, String name, ToLongFunction<MemoryUsage> value) {
        out.append("# TYPE ").append(name).append(" gauge\n");
        for (MemoryPoolMXBean pool : ManagementFactory.getMemoryPoolMXBeans()) {
            String area = pool.getType() == MemoryType.HEAP ? "heap" : "nonheap";
            out.append("%s{area=\"%s\",id=\"%s\"} %d\n".formatted(
                    name, area, pool.getName(), value.applyAsLong(pool.getUsage())));
        }
    }

    private static void writeTimers(StringBuilder out, String name, Map<String, Timer> timers) {
        out.append("# TYPE ").append(name).append(" summary\n");
        timers.forEach((labels, timer) -> out.append("%s_count{%s} %d\n%s_sum{%s} %s\n".formatted(
                name, labels, timer.count, name, labels, timer.seconds)));
    }

    /** Strings, and integers as Long; every other value is checked and becomes null, for nobody asks for it. */
    private static final class Json {
        private static final Pattern NUMBER = Pattern.compile("-?(?:0|[1-9][0-9]*)(\\.[0-9]+)?([eE][+-]?[0-9]+)?");
        private final String text;
        private int at;

        private Json(String text) {
            this.text = text;
        }

        /** The object's members, or none when the text is anything but one object. */
        static Map<?, ?> parseObject(String text) {
            try {
                Json json = new Json(text);
                Object value = json.parseValue(0);
                json.skipSpace();
                return json.at == text.length() && value instanceof Map<?, ?> members ? members : Map.of();
            } catch (IllegalArgumentException malformed) {
                return Map.of();
            }
        }

        private IllegalArgumentException malformed() {
            return new IllegalArgumentException("not JSON at character " + at);
        }

        private void skipSpace() {
            while (at < text.length() && " \t\r\n".indexOf(text.charAt(at)) >= 0) {
                at++;
            }
        }

        private boolean take(char wanted) {
            skipSpace();
            boolean found = at < text.length() && text.charAt(at) == wanted;
            at += found ? 1 : 0;
            return found;
        }

        private void expect(char wanted) {
            if (!take(wanted)) {
                throw malformed();
            }
        }

        private char next() {
            if (at == text.length()) {
                throw malformed();
            }
            return text.charAt(at++);
        }

        private Object parseValue(int depth) {
            if (take('"')) {
                return parseString();
            }
            boolean isObject = take('{');
            if (isObject || take('[')) {
                return parseMembers(depth, isObject, isObject ? '}' : ']');
            }
            for (String literal : new String[] {"true", "false", "null"}) {
                if (text.startsWith(literal, at)) {
                    at += literal.length();
                    return null;
                }
            }
            Matcher number = NUMBER.matcher(text).region(at, text.length());
            if (!number.lookingAt()) {
                throw malformed();
            }
            at = number.end();
            if (number.group(1) != null || number.group(2) != null) {
                return null;
            }
            // A longer number is out of every range here, so it need not be read exactly.
            return number.group().length() > 18 ? Long.valueOf(Long.MAX_VALUE) : Long.valueOf(number.group());
        }

        private Map<String, Object> parseMembers(int depth, boolean isObject, char close) {
            Map<String, Object> members = new HashMap<>();
            if (depth == MAX_DEPTH) {
                throw malformed();
            }
            if (take(close)) {
                return isObject ? members : null;
            }
            do {
                String name = "";
                if (isObject) {
                    expect('"');
                    name = parseString();
                    expect(':');
                }
                members.put(name, parseValue(depth + 1));
            } while (take(','));
            expect(close);
            return isObject ? members : null;
        }

        private String parseString() {
            StringBuilder decoded = new StringBuilder();
            for (char c = next(); c != '"'; c = next()) {
                if (c < ' ') {
                    throw malformed();
                }
                decoded.append(c == '\\' ? parseEscape() : c);
            }
            return decoded.toString();
        }

        private char parseEscape() {
            char name = next();
            int known = "\"\\/bfnrt".indexOf(name);
            if (known >= 0) {
                return "\"\\/\b\f\n\r\t".charAt(known);
            }
            int code = 0;
            for (int i = 0; i < 4; i++) {
                int digit = name == 'u' ? Character.digit(next(), 16) : -1;
                if (digit < 0) {
                    throw malformed();
                }
                code = code * 16 + digit;
            }
            return (char) code;
        }
    }
}
