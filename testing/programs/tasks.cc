// Threads as C++ has them: thread, async, promise, condition_variable, shared_mutex, thread_local, call_once, exceptions
// that cross threads.
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <future>
#include <iostream>
#include <mutex>
#include <numeric>
#include <queue>
#include <shared_mutex>
#include <stdexcept>
#include <thread>
#include <vector>

static std::atomic<int> destroyed{0};
struct Local {
    int value = 0;
    ~Local() { destroyed += value; }
};
static thread_local Local local;

static long fibonacci(int n) {
    if (n < 18)
        return n < 2 ? n : fibonacci(n - 1) + fibonacci(n - 2);
    auto first = std::async(std::launch::async, fibonacci, n - 1);
    long second = fibonacci(n - 2);
    return first.get() + second;
}

int main() {
    std::vector<std::thread> threads;
    std::atomic<long> sum{0};
    for (int i = 1; i <= 32; i++)
        threads.emplace_back([&, i] {
            local.value = i;
            sum += i;
        });
    for (auto &thread : threads)
        thread.join();
    std::cout << "sum " << sum << ", thread-local objects destroyed " << destroyed << std::endl;
    std::cout << "fibonacci " << fibonacci(22) << std::endl;

    std::promise<int> promise;
    auto future = promise.get_future();
    std::thread fails([&] {
        try {
            throw std::runtime_error("across threads");
        } catch (...) {
            promise.set_exception(std::current_exception());
        }
    });
    try {
        future.get();
    } catch (const std::exception &error) {
        std::cout << "caught: " << error.what() << std::endl;
    }
    fails.join();

    std::mutex lock;
    std::condition_variable changed;
    std::queue<int> queue;
    bool is_over = false;
    long consumed = 0;
    std::vector<std::thread> consumers;
    for (int i = 0; i < 4; i++)
        consumers.emplace_back([&] {
            for (;;) {
                std::unique_lock<std::mutex> guard(lock);
                changed.wait(guard, [&] { return is_over || !queue.empty(); });
                if (queue.empty())
                    return;
                consumed += queue.front();
                queue.pop();
            }
        });
    for (int i = 0; i < 5000; i++) {
        std::lock_guard<std::mutex> guard(lock);
        queue.push(i);
        changed.notify_one();
    }
    {
        std::lock_guard<std::mutex> guard(lock);
        is_over = true;
    }
    changed.notify_all();
    for (auto &consumer : consumers)
        consumer.join();
    std::cout << "consumed " << consumed << std::endl;

    std::shared_mutex shared;
    std::once_flag once;
    int initialised = 0, odd = 0;
    std::vector<std::future<void>> tasks;
    for (int i = 0; i < 8; i++)
        tasks.push_back(std::async(std::launch::async, [&, i] {
            std::call_once(once, [&] { initialised++; });
            for (int round = 0; round < 200; round++)
                if (i == 0) {
                    std::unique_lock<std::shared_mutex> guard(shared);
                    odd += 2;
                } else {
                    std::shared_lock<std::shared_mutex> guard(shared);
                    if (odd % 2)
                        std::abort();
                }
        }));
    for (auto &task : tasks)
        task.get();
    std::cout << "initialised " << initialised << ", " << odd << std::endl;
    std::timed_mutex timed;
    timed.lock();
    auto waits = std::async(std::launch::async, [&] { return timed.try_lock_for(std::chrono::milliseconds(20)); });
    std::cout << "a timed lock: " << waits.get() << std::endl;
}
