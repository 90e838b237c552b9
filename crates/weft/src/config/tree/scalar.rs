//! Plain scalars as JSON, by the core schema of YAML 1.2 (section 10.3.2): what that calls a number and JSON
//! can express is that number, digit for digit; what JSON has no number for is told.

/// What a plain scalar is by the core schema.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Scalar {
    /// A truth value.
    Bool(bool),
    /// A number, as JSON writes it.
    Number(String),
    /// A number that JSON has none for, and why.
    Beyond(&'static str),
    /// Anything else.
    Text,
}

/// Reads a plain scalar that is not null.
pub(super) fn read(text: &str) -> Scalar {
    match text {
        "true" | "True" | "TRUE" => return Scalar::Bool(true),
        "false" | "False" | "FALSE" => return Scalar::Bool(false),
        ".nan" | ".NaN" | ".NAN" => return Scalar::Beyond("JSON has no number that is none"),
        _ => {}
    }
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    if matches!(digits, ".inf" | ".Inf" | ".INF") {
        return Scalar::Beyond("JSON has no infinite number");
    }
    let based = |prefix: &str, base: u32| {
        let digits = text.strip_prefix(prefix)?;
        let fits = !digits.is_empty() && digits.chars().all(|digit| digit.is_digit(base));
        fits.then(|| u128::from_str_radix(digits, base).ok())
    };
    match based("0x", 16).or_else(|| based("0o", 8)) {
        Some(Some(number)) => return Scalar::Number(number.to_string()),
        Some(None) => return Scalar::Beyond("a number of more than 128 bits"),
        None => {}
    }
    decimal(text.starts_with('-'), digits)
}

/// Reads a decimal number without its sign.
fn decimal(negative: bool, text: &str) -> Scalar {
    let (mantissa, exponent) = match text.find(['e', 'E']) {
        Some(at) => text.split_at(at),
        None => (text, ""),
    };
    let (whole, rest) = match mantissa.find('.') {
        Some(at) => mantissa.split_at(at),
        None => (mantissa, ""),
    };
    let part = rest.strip_prefix('.');
    let is_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let power = exponent.get(1..).map(|power| power.strip_prefix(['-', '+']).unwrap_or(power));
    if !is_digits(whole)
        || !part.is_none_or(is_digits)
        || (whole.is_empty() && part.is_none_or(str::is_empty))
        || power.is_some_and(|power| power.is_empty() || !is_digits(power))
    {
        return Scalar::Text;
    }
    let sign = if negative { "-" } else { "" };
    let whole = match whole.trim_start_matches('0') {
        "" => "0",
        whole => whole,
    };
    let part = match part {
        None => String::new(),
        Some("") => ".0".to_owned(),
        Some(part) => format!(".{part}"),
    };
    let number = format!("{sign}{whole}{part}{exponent}");
    // A number that no reader of JSON takes is as good as none.
    if number.parse::<f64>().is_ok_and(f64::is_finite) {
        Scalar::Number(number)
    } else {
        Scalar::Beyond("a number beyond what a reader of JSON takes")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_the_core_schema_are_numbers_of_json() {
        for (text, number) in [
            ("5", "5"),
            ("-0", "-0"),
            ("+5", "5"),
            ("010", "10"),
            ("-007", "-7"),
            ("0x1F", "31"),
            ("0o17", "15"),
            (".5", "0.5"),
            ("-.5", "-0.5"),
            ("5.", "5.0"),
            ("5.e3", "5.0e3"),
            ("1e3", "1e3"),
            ("1E+3", "1E+3"),
            ("2.50", "2.50"),
            ("12345678901234567890123", "12345678901234567890123"),
            ("0xffffffffffffffffffff", "1208925819614629174706175"),
            ("0.1234567890123456789", "0.1234567890123456789"),
        ] {
            assert_eq!(read(text), Scalar::Number(number.to_owned()), "{text}");
            assert!(serde_json::from_str::<serde_json::Number>(number).is_ok(), "{number}");
        }
        for text in [
            "",
            ".",
            "-",
            "+",
            "1_000",
            "0x",
            "-0x1F",
            "0o8",
            "0b1",
            "1e",
            "1e+",
            "e3",
            ".e3",
            "1.2.3",
            "2026-01-01",
            "yes",
            "nan",
            "inf",
            "Infinity",
            "12:30",
            "١٢",
        ] {
            assert_eq!(read(text), Scalar::Text, "{text}");
        }
        for text in [
            ".inf",
            "-.INF",
            "+.Inf",
            ".nan",
            ".NaN",
            "1e999",
            "0x100000000000000000000000000000000",
        ] {
            assert!(matches!(read(text), Scalar::Beyond(_)), "{text}");
        }
        assert_eq!(read("TRUE"), Scalar::Bool(true));
    }
}
