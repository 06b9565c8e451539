"""What tests are made with: builders, servers, and programs that run in processes of their own."""
