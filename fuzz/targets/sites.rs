//! Tables of rewriting sites, which the enclave follows.
#![no_main]

use erofs_format::SiteTable;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Ok(table) = SiteTable::from_bytes(data) {
        assert_eq!(SiteTable::from_bytes(&table.to_bytes()).as_ref(), Ok(&table));
        for site in table.sites() {
            std::hint::black_box((site.extent(), site.hole()));
        }
        std::hint::black_box(table.in_range(100..5000).len());
    }
});
