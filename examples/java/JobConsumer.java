import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.List;
import java.util.Map;
import org.apache.kafka.clients.consumer.CommitFailedException;
import org.apache.kafka.clients.consumer.ConsumerConfig;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.ConsumerRecords;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.errors.RebalanceInProgressException;
import org.apache.kafka.common.errors.WakeupException;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.StringDeserializer;

/**
 * Prints the state of each job as it changes, and commits what it has printed.
 *
 * <p>A record is printed at least once: again after a crash, or where its partition went to another
 * consumer before the commit. Whoever must not act twice remembers the {@code ce_id} of each event.
 *
 * <p>On the class path: org.apache.kafka:kafka-clients:4.3.1 and
 * com.fasterxml.jackson.core:jackson-databind:2.21.2, with what they depend on, in libs/;
 * SLF4J says once that it has no logger unless you add one:
 *
 * <pre>
 * javac -cp 'libs/*' JobConsumer.java
 * java -cp 'libs/*:.' JobConsumer localhost:9092 jobs example-java
 * </pre>
 */
public final class JobConsumer {
    private static final ObjectMapper JSON = new ObjectMapper();

    public static void main(String[] arguments) throws Exception {
        if (arguments.length != 3) {
            System.err.println("usage: JobConsumer BOOTSTRAP_SERVERS TOPIC GROUP");
            System.exit(2);
        }
        Map<String, Object> settings = Map.of(
                ConsumerConfig.BOOTSTRAP_SERVERS_CONFIG, arguments[0],
                ConsumerConfig.GROUP_ID_CONFIG, arguments[2],
                ConsumerConfig.AUTO_OFFSET_RESET_CONFIG, "earliest",
                // Not Java's default: what a transactional bridge aborted isn't seen.
                ConsumerConfig.ISOLATION_LEVEL_CONFIG, "read_committed",
                ConsumerConfig.ENABLE_AUTO_COMMIT_CONFIG, false);
        KafkaConsumer<String, byte[]> consumer = new KafkaConsumer<>(
                settings, new StringDeserializer(), new ByteArrayDeserializer());
        Thread main = Thread.currentThread();
        Runtime.getRuntime().addShutdownHook(new Thread(() -> stop(consumer, main)));
        try (consumer) {
            consumer.subscribe(List.of(arguments[1]));
            while (true) {
                ConsumerRecords<String, byte[]> records = consumer.poll(Duration.ofSeconds(1));
                for (ConsumerRecord<String, byte[]> record : records) {
                    System.out.println(describe(record));
                }
                if (!records.isEmpty()) {
                    commit(consumer);
                }
            }
        } catch (WakeupException stopped) {
            // SIGTERM or Ctrl-C; the group has been left by now.
        }
    }

    /** Commits after the work: a crash in between hands the same records out again. */
    private static void commit(KafkaConsumer<?, ?> consumer) {
        try {
            consumer.commitSync();
        } catch (RebalanceInProgressException | CommitFailedException moved) {
            // The group is dividing its partitions anew: the records come again, here or elsewhere.
            System.err.println("not committed: " + moved.getMessage());
        }
    }

    /** Gives partition/offset, job, state, progress, the event's identity, and what is odd about it. */
    private static String describe(ConsumerRecord<String, byte[]> record) throws IOException {
        byte[] value = record.value();
        // With a Schema Registry a zero byte and the schema's id stand before the JSON.
        int start = value.length > 0 && value[0] == 0 ? 5 : 0;
        JsonNode job = JSON.readTree(value, start, value.length - start);
        return String.format("%d/%d %s %s %s %s %s", record.partition(), record.offset(), record.key(),
                job.path("status").asText(), job.path("progress").asText("-"),
                header(record, "ce_id"), header(record, "bridge_anomaly"));
    }

    private static String header(ConsumerRecord<?, ?> record, String name) {
        Header header = record.headers().lastHeader(name);
        return header == null ? "-" : new String(header.value(), StandardCharsets.UTF_8);
    }

    private static void stop(KafkaConsumer<?, ?> consumer, Thread main) {
        consumer.wakeup();
        try {
            main.join(5_000);
        } catch (InterruptedException interrupted) {
            Thread.currentThread().interrupt();
        }
    }
}
