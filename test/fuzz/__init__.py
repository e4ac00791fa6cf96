"""`make fuzz`: inputs that a fuzzer finds by coverage (libFuzzer, by way of atheris), judged by properties."""
