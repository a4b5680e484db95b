import com.fasterxml.jackson.annotation.JsonIgnoreProperties;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.ObjectReader;
import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.DataInputStream;
import java.io.DataOutputStream;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.util.ArrayDeque;
import java.util.Properties;
import org.apache.kafka.common.serialization.Deserializer;
import org.apache.kafka.common.serialization.Serde;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.common.serialization.Serializer;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.kstream.Consumed;
import org.apache.kafka.streams.kstream.Produced;
import org.apache.kafka.streams.processor.api.Processor;
import org.apache.kafka.streams.processor.api.ProcessorContext;
import org.apache.kafka.streams.processor.api.Record;
import org.apache.kafka.streams.state.KeyValueStore;
import org.apache.kafka.streams.state.StoreBuilder;
import org.apache.kafka.streams.state.Stores;

/**
 * Each user's last 50 items and a counter, in an in-memory store with cache and changelog; one output for
 * every ten events of a user. Arguments: servers, input topic, output topic, application id, state folder.
 */
public final class LastItems {
    static final int KEPT = 50;
    static final int EVERY = 10;
    static final String STORE = "users";

    @JsonIgnoreProperties(ignoreUnknown = true)
    public static final class Click {
        public String user_id;
        public String item_id;
    }

    static final class User {
        int count;
        final ArrayDeque<String> items = new ArrayDeque<>(KEPT);
    }

    static final class Counting implements Processor<String, byte[], String, String> {
        private final ObjectReader reader = new ObjectMapper().readerFor(Click.class);
        private ProcessorContext<String, String> context;
        private KeyValueStore<String, User> users;

        @Override
        public void init(ProcessorContext<String, String> context) {
            this.context = context;
            this.users = context.getStateStore(STORE);
        }

        @Override
        public void process(Record<String, byte[]> record) {
            Click click;
            try {
                click = reader.readValue(record.value());
            } catch (IOException error) {
                throw new UncheckedIOException(error);
            }
            User user = users.get(click.user_id);
            if (user == null) {
                user = new User();
            }
            user.count++;
            if (user.items.size() == KEPT) {
                user.items.removeFirst();
            }
            user.items.addLast(click.item_id);
            users.put(click.user_id, user);
            if (user.count % EVERY == 0) {
                String value = "{\"user_id\":\"" + click.user_id + "\",\"events\":" + user.count + "}";
                context.forward(new Record<>(click.user_id, value, record.timestamp()));
            }
        }
    }

    static Serde<User> userSerde() {
        Serializer<User> write = (topic, user) -> {
            if (user == null) {
                return null;
            }
            ByteArrayOutputStream bytes = new ByteArrayOutputStream(16 + 8 * user.items.size());
            try (DataOutputStream out = new DataOutputStream(bytes)) {
                out.writeInt(user.count);
                out.writeByte(user.items.size());
                for (String item : user.items) {
                    out.writeUTF(item);
                }
            } catch (IOException error) {
                throw new UncheckedIOException(error);
            }
            return bytes.toByteArray();
        };
        Deserializer<User> read = (topic, bytes) -> {
            if (bytes == null) {
                return null;
            }
            User user = new User();
            try (DataInputStream in = new DataInputStream(new ByteArrayInputStream(bytes))) {
                user.count = in.readInt();
                int n = in.readByte();
                for (int i = 0; i < n; i++) {
                    user.items.addLast(in.readUTF());
                }
            } catch (IOException error) {
                throw new UncheckedIOException(error);
            }
            return user;
        };
        return Serdes.serdeFrom(write, read);
    }

    public static void main(String[] args) {
        StoreBuilder<KeyValueStore<String, User>> store =
            Stores.keyValueStoreBuilder(Stores.inMemoryKeyValueStore(STORE), Serdes.String(), userSerde())
                .withCachingEnabled();
        StreamsBuilder builder = new StreamsBuilder();
        builder.addStateStore(store);
        builder.stream(args[1], Consumed.with(Serdes.String(), Serdes.ByteArray()))
            .process(Counting::new, STORE)
            .to(args[2], Produced.with(Serdes.String(), Serdes.String()));
        Properties config = new Properties();
        config.put(StreamsConfig.APPLICATION_ID_CONFIG, args[3]);
        config.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, args[0]);
        config.put(StreamsConfig.STATE_DIR_CONFIG, args[4]);
        config.put(StreamsConfig.PROCESSING_GUARANTEE_CONFIG, StreamsConfig.AT_LEAST_ONCE);
        config.put(StreamsConfig.consumerPrefix("auto.offset.reset"), "earliest");
        // A poll takes what is there, and a fetch is not held open for partitions that are drained.
        config.put(StreamsConfig.consumerPrefix("max.poll.records"), "10000");
        config.put(StreamsConfig.consumerPrefix("fetch.max.wait.ms"), "10");
        config.put(StreamsConfig.consumerPrefix("max.partition.fetch.bytes"), "4194304");
        KafkaStreams streams = new KafkaStreams(builder.build(), config);
        Runtime.getRuntime().addShutdownHook(new Thread(streams::close));
        streams.start();
    }
}
