/* Threads, locks, collections, garbage, and exceptions that the JVM makes of SIGSEGV. */
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.CyclicBarrier;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import java.util.stream.LongStream;

public class Threads {
    public static void main(String[] arguments) throws Exception {
        ExecutorService pool = Executors.newFixedThreadPool(8);
        List<Future<Long>> sums = new ArrayList<>();
        for (int task = 0; task < 32; task++) {
            long from = task * 100_000L;
            sums.add(pool.submit(() -> LongStream.range(from, from + 100_000).map(i -> i * i % 1009).sum()));
        }
        long total = 0;
        for (Future<Long> sum : sums)
            total += sum.get();
        pool.shutdown();
        System.out.println("sum " + total + ", all done: " + pool.awaitTermination(10, TimeUnit.SECONDS));

        Map<String, Integer> words = new ConcurrentHashMap<>();
        CyclicBarrier barrier = new CyclicBarrier(8);
        List<Thread> threads = new ArrayList<>();
        for (int t = 0; t < 8; t++) {
            int id = t;
            Thread thread = new Thread(() -> {
                for (int i = 0; i < 10_000; i++)
                    words.merge("w" + (i * id) % 97, 1, Integer::sum);
                try {
                    for (int i = 0; i < 100; i++)
                        barrier.await();
                } catch (Exception e) {
                    throw new IllegalStateException(e);
                }
            });
            threads.add(thread);
            thread.start();
        }
        for (Thread thread : threads)
            thread.join();
        System.out.println("words " + new TreeMap<>(words).hashCode());

        List<byte[]> kept = new ArrayList<>();
        for (int i = 0; i < 2000; i++) {
            kept.add(new byte[100_000]);
            if (kept.size() > 50)
                kept.clear();
        }
        System.gc();
        System.out.println("kept " + kept.size());

        try {
            System.out.println(nothing().length());
        } catch (NullPointerException e) {
            System.out.println("null");
        }
        try {
            System.out.println(deeper(0));
        } catch (StackOverflowError e) {
            System.out.println("too deep");
        }
    }

    static String nothing() {
        return null;
    }

    static int deeper(int n) {
        return deeper(n + 1) + 1;
    }
}
