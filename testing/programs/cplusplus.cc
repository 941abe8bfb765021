// Exceptions, streams, locales, containers and 64 MiB of heap churn.
#include <algorithm>
#include <iomanip>
#include <iostream>
#include <locale>
#include <map>
#include <memory>
#include <random>
#include <regex>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

struct Guard {
    std::string name;
    ~Guard() { std::cout << "left " << name << '\n'; }
};

static int deep(int depth) {
    Guard guard{"level " + std::to_string(depth)};
    if (depth == 3)
        throw std::out_of_range("the bottom");
    return deep(depth + 1) + 1;
}

struct Comma : std::numpunct<char> {
    char do_thousands_sep() const override { return ','; }
    std::string do_grouping() const override { return "\3"; }
};

int main() {
    try {
        deep(0);
    } catch (const std::exception &error) {
        std::cout << "caught " << error.what() << '\n';
    }
    try {
        std::string("abc").at(10);
    } catch (const std::out_of_range &) {
        std::cout << "at() throws\n";
    }
    try {
        std::vector<char> too_much(static_cast<size_t>(1) << 50);
    } catch (const std::bad_alloc &) {
        std::cout << "bad_alloc\n";
    }
    try {
        std::locale nowhere("xx_XX.nothing");
    } catch (const std::runtime_error &) {
        std::cout << "no such locale\n";
    }
    std::ostringstream text;
    text.imbue(std::locale(std::locale::classic(), new Comma));
    text << 1234567 << ' ' << std::fixed << std::setprecision(3) << 9876543.21 << ' ' << std::hex << 255;
    std::cout << text.str() << '\n';
    std::map<std::string, int> words;
    std::istringstream source("a rose is a rose is a rose");
    for (std::string word; source >> word;)
        words[word]++;
    for (const auto &[word, count] : words)
        std::cout << word << '=' << count << ' ';
    std::cout << '\n' << std::regex_replace("2026-11-24", std::regex("(\\d+)-(\\d+)-(\\d+)"), "$3.$2.$1") << '\n';

    unsigned long sum = 0, seed = 1;
    for (int round = 0; round < 8; round++) {
        std::vector<std::unique_ptr<std::vector<unsigned>>> blocks;
        for (size_t bytes = 0; bytes < (64u << 20);) {
            seed = seed * 6364136223846793005u + 1442695040888963407u;
            size_t length = 1 + (seed >> 33) % 20000;
            blocks.push_back(std::make_unique<std::vector<unsigned>>(length, static_cast<unsigned>(seed)));
            bytes += length * sizeof(unsigned);
        }
        std::shuffle(blocks.begin(), blocks.end(), std::minstd_rand(round));
        for (const auto &block : blocks)
            sum += block->back();
    }
    std::cout << "churn " << sum << std::endl;
    std::cerr << "to standard error\n";
    std::string line;
    while (std::getline(std::cin, line))
        std::cout << '[' << line << "]\n";
    return 3;
}
