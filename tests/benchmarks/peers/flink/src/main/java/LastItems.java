import com.fasterxml.jackson.annotation.JsonIgnoreProperties;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.ObjectReader;
import java.io.IOException;
import org.apache.flink.api.common.eventtime.WatermarkStrategy;
import org.apache.flink.api.common.serialization.AbstractDeserializationSchema;
import org.apache.flink.api.common.serialization.SimpleStringSchema;
import org.apache.flink.api.common.state.ValueState;
import org.apache.flink.api.common.state.ValueStateDescriptor;
import org.apache.flink.configuration.CheckpointingOptions;
import org.apache.flink.configuration.Configuration;
import org.apache.flink.configuration.StateBackendOptions;
import org.apache.flink.connector.base.DeliveryGuarantee;
import org.apache.flink.connector.kafka.sink.KafkaRecordSerializationSchema;
import org.apache.flink.connector.kafka.sink.KafkaSink;
import org.apache.flink.connector.kafka.source.KafkaSource;
import org.apache.flink.connector.kafka.source.enumerator.initializer.OffsetsInitializer;
import org.apache.flink.streaming.api.CheckpointingMode;
import org.apache.flink.streaming.api.environment.StreamExecutionEnvironment;
import org.apache.flink.streaming.api.functions.KeyedProcessFunction;
import org.apache.flink.util.Collector;

/**
 * Each user's last 50 items and a counter, in hash map state with a checkpoint every 5 s; one output for every
 * ten events of a user. Arguments: servers, input topic, output topic, group, folder of checkpoints.
 */
public final class LastItems {
    static final int KEPT = 50;
    static final int EVERY = 10;

    @JsonIgnoreProperties(ignoreUnknown = true)
    public static final class Click {
        public String user_id;
        public String item_id;
    }

    /** A user's state; `items` is a ring of which the first `size` are used. */
    public static final class User {
        public int count;
        public int size;
        public String[] items = new String[KEPT];
    }

    public static final class Clicks extends AbstractDeserializationSchema<Click> {
        private transient ObjectReader reader;

        @Override
        public void open(InitializationContext context) {
            reader = new ObjectMapper().readerFor(Click.class);
        }

        @Override
        public Click deserialize(byte[] message) throws IOException {
            return reader.readValue(message);
        }
    }

    public static final class Counting extends KeyedProcessFunction<String, Click, String> {
        private transient ValueState<User> users;

        @Override
        public void open(Configuration parameters) {
            users = getRuntimeContext().getState(new ValueStateDescriptor<>("users", User.class));
        }

        @Override
        public void processElement(Click click, Context context, Collector<String> out) throws Exception {
            User user = users.value();
            if (user == null) {
                user = new User();
            }
            user.items[user.count % KEPT] = click.item_id;
            user.count++;
            user.size = Math.min(KEPT, user.size + 1);
            users.update(user);
            if (user.count % EVERY == 0) {
                out.collect("{\"user_id\":\"" + click.user_id + "\",\"events\":" + user.count + "}");
            }
        }
    }

    public static void main(String[] args) throws Exception {
        Configuration config = new Configuration();
        config.set(StateBackendOptions.STATE_BACKEND, "hashmap");
        config.set(CheckpointingOptions.CHECKPOINT_STORAGE, "filesystem");
        config.set(CheckpointingOptions.CHECKPOINTS_DIRECTORY, "file://" + args[4]);
        StreamExecutionEnvironment env = StreamExecutionEnvironment.createLocalEnvironment(1, config);
        env.enableCheckpointing(5_000, CheckpointingMode.AT_LEAST_ONCE);
        env.getConfig().enableObjectReuse();
        KafkaSource<Click> source = KafkaSource.<Click>builder()
            .setBootstrapServers(args[0])
            .setTopics(args[1])
            .setGroupId(args[3])
            .setStartingOffsets(OffsetsInitializer.earliest())
            .setValueOnlyDeserializer(new Clicks())
            // With the defaults its one fetch in flight is held open for partitions that are drained.
            .setProperty("fetch.max.wait.ms", "10")
            .setProperty("fetch.min.bytes", "1")
            .setProperty("max.poll.records", "10000")
            .setProperty("fetch.max.bytes", "67108864")
            .setProperty("max.partition.fetch.bytes", "4194304")
            .setProperty("receive.buffer.bytes", "4194304")
            .build();
        KafkaSink<String> sink = KafkaSink.<String>builder()
            .setBootstrapServers(args[0])
            .setDeliveryGuarantee(DeliveryGuarantee.AT_LEAST_ONCE)
            .setProperty("linger.ms", "20")
            .setRecordSerializer(KafkaRecordSerializationSchema.builder()
                .setTopic(args[2])
                .setValueSerializationSchema(new SimpleStringSchema())
                .build())
            .build();
        env.fromSource(source, WatermarkStrategy.noWatermarks(), "clicks")
            .keyBy(click -> click.user_id)
            .process(new Counting())
            .sinkTo(sink);
        env.execute("last-items");
    }
}
