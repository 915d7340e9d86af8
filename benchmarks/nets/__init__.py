"""The nets that are measured. One file is one net: FULL and QUICK (recipes), `build(...) -> nn.Module`, `data(...)`."""
