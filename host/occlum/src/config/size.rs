//! Sizes in the words of Occlum.json: `<integer><B|KB|MB|GB|TB>`, in powers of 1024.

/// Bytes in "300MB", or what is wrong with it.
///
/// Lower-case and IEC spellings (`mb`, `MiB`, `M`) mean the same. A number alone means bytes. Fractions are
/// refused: nobody agrees on how to round them.
pub(crate) fn parse(text: &str) -> Result<u64, String> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = (&text[..digits], text[digits..].trim_start());
    if number.is_empty() {
        return Err(format!("`{text}` is not a size"));
    }
    let shift = shift_of(unit).ok_or_else(|| match unit.starts_with('.') {
        true => "a size is a whole number".to_owned(),
        false => format!("`{unit}` is not a unit"),
    })?;
    let number: u64 = number.parse().map_err(|_| format!("`{text}` is too large"))?;
    number.checked_mul(1 << shift).ok_or_else(|| format!("`{text}` is too large"))
}

/// What to say to whoever got a size wrong.
pub(crate) const HINT: &str = "write a whole number and one of B, KB, MB, GB, TB, such as \"300MB\"";

fn shift_of(unit: &str) -> Option<u32> {
    match unit.to_ascii_lowercase().as_str() {
        "" | "b" => Some(0),
        "k" | "kb" | "kib" => Some(10),
        "m" | "mb" | "mib" => Some(20),
        "g" | "gb" | "gib" => Some(30),
        "t" | "tb" | "tib" => Some(40),
        _ => None,
    }
}

/// `bytes` in the largest unit that divides it.
pub(crate) fn display(bytes: u64) -> String {
    const UNITS: [(u32, &str); 4] = [(40, "TB"), (30, "GB"), (20, "MB"), (10, "KB")];
    for (shift, unit) in UNITS {
        if bytes != 0 && bytes.trailing_zeros() >= shift {
            return format!("{}{unit}", bytes >> shift);
        }
    }
    format!("{bytes}B")
}

/// `bytes` for people: in a unit that leaves a number of a few digits, rounded up.
pub(crate) fn about(bytes: u64) -> String {
    match bytes {
        0..0x2800 => display(bytes),
        0x2800..0xa0_0000 => format!("{}KB", bytes.div_ceil(1 << 10)),
        0xa0_0000..0x2_8000_0000 => format!("{}MB", bytes.div_ceil(1 << 20)),
        _ => format!("{}GB", bytes.div_ceil(1 << 30)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_powers_of_1024() {
        assert_eq!(parse("1B"), Ok(1));
        assert_eq!(parse("8KB"), Ok(8 << 10));
        assert_eq!(parse("300MB"), Ok(300 << 20));
        assert_eq!(parse("300 MiB"), Ok(300 << 20));
        assert_eq!(parse("2g"), Ok(2 << 30));
        assert_eq!(parse("1TB"), Ok(1 << 40));
        assert_eq!(parse("4096"), Ok(4096));
    }

    #[test]
    fn what_is_not_a_size_is_said_to_be_none() {
        assert_eq!(parse("300XB"), Err("`XB` is not a unit".into()));
        assert_eq!(parse("MB"), Err("`MB` is not a size".into()));
        assert_eq!(parse(""), Err("`` is not a size".into()));
        assert_eq!(parse("-1MB"), Err("`-1MB` is not a size".into()));
        assert_eq!(parse("1.5GB"), Err("a size is a whole number".into()));
        assert_eq!(parse("99999999TB"), Err("`99999999TB` is too large".into()));
        assert_eq!(parse("99999999999999999999B"), Err("`99999999999999999999B` is too large".into()));
    }

    #[test]
    fn sizes_for_people_are_rounded_up() {
        assert_eq!(about(5), "5B");
        assert_eq!(about(20_000), "20KB");
        assert_eq!(about((300 << 20) + 1), "301MB");
        assert_eq!(about(56 << 30), "56GB");
    }

    #[test]
    fn a_displayed_size_reads_back_as_the_same() {
        for bytes in [0, 1, 1023, 1024, 1536, 300 << 20, 5 << 30, 1 << 40, u64::MAX] {
            assert_eq!(parse(&display(bytes)), Ok(bytes));
        }
    }
}
