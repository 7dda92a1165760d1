import logging

# On a CPU it warns, when PEFT imports it, of a kernel for inference that we do not use.
logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
