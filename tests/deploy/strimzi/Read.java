import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.dataformat.yaml.YAMLFactory;
import java.lang.reflect.Method;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Collection;
import java.util.Map;

/** Reads resources by Strimzi's classes; prints the fields that these do not know, and what does not come back as it was. */
public class Read {
    public static void main(String[] files) throws Exception {
        var mapper = new ObjectMapper(new YAMLFactory());
        for (String file : files) {
            var documents = mapper.readerFor(JsonNode.class).<JsonNode>readValues(Files.readString(Path.of(file)));
            while (documents.hasNext()) {
                JsonNode given = documents.next();
                String kind = given.get("kind").asText();
                String folder = kind.replace("Kafka", "").toLowerCase();
                Object read = mapper.treeToValue(given, Class.forName("io.strimzi.api.kafka.model." + folder + "." + kind));
                tellUnknown(read, kind);
                if (!mapper.valueToTree(read).equals(given)) {
                    System.out.println(kind + ": read otherwise than written: " + mapper.valueToTree(read));
                }
            }
        }
    }

    /** Fields that a class does not know are kept apart in it, at whatever depth. */
    private static void tellUnknown(Object read, String at) throws Exception {
        if (read instanceof Collection<?> several) {
            for (Object one : several) {
                tellUnknown(one, at);
            }
        }
        if (read == null || !read.getClass().getName().startsWith("io.strimzi")) {
            return;
        }
        for (Method get : read.getClass().getMethods()) {
            if (get.isBridge() || get.getParameterCount() > 0 || !get.getName().startsWith("get") || get.getName().equals("getClass")) {
                continue;
            }
            Object value = get.invoke(read);
            if (!get.getName().equals("getAdditionalProperties")) {
                tellUnknown(value, at + "." + get.getName().substring(3));
            } else if (!((Map<?, ?>) value).isEmpty()) {
                System.out.println(at + ": unknown: " + value);
            }
        }
    }
}
