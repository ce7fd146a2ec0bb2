"""The policy: a vision-language model that is asked, sampled, scored and trained, on the library's own classes."""
