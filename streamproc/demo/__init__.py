"""The demo: real webhooks through the real pipeline to a PagerDuty emulator, shown live and checked at the end."""
